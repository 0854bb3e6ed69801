#include <cstdio>

#include "bench_run.h"

namespace fishermask::cuda_bench {
namespace {

// The item's number, or nothing where it is null or missing.
double number(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found == row.end() || !found->is_number() ? 0.0 : found->get<double>();
}
std::string word(const Json& row, const char* key) { return row.at(key).get<std::string>(); }

bool has(const Json& document, const char* key) {
  return document.contains(key) && !document[key].empty();
}

void print_checks(const Json& document) {
  int held = 0;
  for (const Json& check : document["checks"]) held += check["holds"].get<bool>() ? 1 : 0;
  std::printf("\ncorrectness: %d of %zu checks hold\n", held, document["checks"].size());
}

void print_ceilings(const Json& ceilings) {
  std::printf("\n%-24s %12s\n", "ceiling", "");
  if (ceilings.contains("copy") && ceilings["copy"].is_object()) {
    std::printf("%-24s %12.1f GB/s\n", "copy", number(ceilings["copy"], "gbPerSecond"));
  }
  for (const Json& row : ceilings["matmul"]) {
    std::printf("linear %5lld, %-10s %12.1f TFLOP/s\n",
                static_cast<long long>(row["size"].get<std::int64_t>()),
                word(row, "precision").c_str(), 1e-3 * number(row, "gflops"));
  }
}

void print_squares(const Json& squares) {
  std::printf("\n%-36s %-5s %6s %-12s %10s %10s %9s %15s\n", "squared gradients", "", "K", "kernel",
              "ms", "TFLOP/s", "of matmul", "TFLOP/s, tiles");
  for (const Json& row : squares) {
    std::printf("%-36s %-5s %6lld %-12s %10.3f %10.2f %8.0f%%", word(row, "shape").c_str(),
                word(row, "precision").c_str(),
                static_cast<long long>(row["k"].get<std::int64_t>()), word(row, "kernel").c_str(),
                number(row, "milliseconds"), 1e-3 * number(row, "gflops"),
                100 * number(row, "ofMatmul"));
    if (row.contains("tiles")) std::printf(" %15.2f", 1e-3 * number(row["tiles"], "gflops"));
    std::printf("\n");
  }
}

void print_top_k(const Json& rows) {
  std::printf("\n%-24s %-12s %10s %10s %9s %20s\n", "top-k masking", "", "ms", "GB/s", "of copy",
              "less mask's download");
  for (const Json& row : rows) {
    std::printf("%-24lld %-12s %10.3f %10.1f %8.0f%% %19.0f%%\n",
                static_cast<long long>(row["params"].get<std::int64_t>()),
                word(row, "distribution").c_str(), number(row, "milliseconds"),
                number(row, "gbPerSecond"), 100 * number(row, "ofCopy"),
                100 * number(row, "ofCopyWithoutDownload"));
  }
}

void print_networks(const Json& rows) {
  std::printf("\n%-12s %-5s %6s %12s %12s %12s %8s %9s   samples a second\n", "network", "",
              "batch", "forward", "fwd + bwd", "Fisher", "time", "recorded");
  for (const Json& row : rows) {
    std::printf("%-12s %-5s %6lld %12.1f %12.1f %12.1f %7.2fx %8.2fx\n",
                word(row, "network").c_str(), word(row, "precision").c_str(),
                static_cast<long long>(row["batch"].get<std::int64_t>()),
                number(row["forward"], "samplesPerSecond"),
                number(row["forwardBackward"], "samplesPerSecond"),
                number(row["fisher"], "samplesPerSecond"), number(row, "fisherOverForwardBackward"),
                number(row["fisher"], "recordingGain"));
  }
}

void print_convolutions(const Json& rows) {
  std::printf("\n%-30s %-5s %-16s %10s %10s %10s   TFLOP/s\n", "convolution", "", "library",
              "forward", "grad x", "grad W");
  for (const Json& row : rows) {
    std::printf("%-30s %-5s %-16s %10.2f %10.2f %10.2f\n", word(row, "shape").c_str(),
                word(row, "precision").c_str(), word(row, "library").c_str(),
                1e-3 * number(row["forward"], "gflops"),
                1e-3 * number(row["inputGradient"], "gflops"),
                1e-3 * number(row["weightGradient"], "gflops"));
  }
}

}  // namespace

void print_tables(const Json& document) {
  const Json& device = document["device"];
  std::printf("%s%s, matrix products by %s, convolutions by %s\n", word(device, "name").c_str(),
              device["emulated"].get<bool>() ? " (emulated: no figure means anything)" : "",
              word(device, "matmulLibrary").c_str(), word(device, "convolutionLibrary").c_str());
  print_checks(document);
  if (has(document, "ceilings")) print_ceilings(document["ceilings"]);
  if (has(document, "squares")) print_squares(document["squares"]);
  if (has(document, "topK")) print_top_k(document["topK"]);
  if (has(document, "networks")) print_networks(document["networks"]);
  if (has(document, "convolutions")) print_convolutions(document["convolutions"]);
}

}  // namespace fishermask::cuda_bench
