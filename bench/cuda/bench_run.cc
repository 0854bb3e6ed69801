#include "bench_run.h"

#include <cstdio>
#include <fstream>
#include <sstream>

#include "core/parallel.h"

namespace fishermask::cuda_bench {
namespace {

const std::vector<std::string> kSections = {"correctness", "ceilings", "squares",
                                            "topK",        "networks", "convolutions"};
const std::vector<std::string> kNetworks = {"resnet20", "resnet18", "vit_b16", "gpt2_124m"};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  return parts;
}

std::vector<std::string> list_of(const bench::Arguments& arguments, const std::string& name,
                                 const std::vector<std::string>& fallback) {
  const std::string given = arguments.string(name, "");
  return given.empty() ? fallback : split(given);
}

std::vector<std::int64_t> params_of(const bench::Arguments& arguments, bool smoke) {
  std::vector<std::string> defaults = {"1e6", "1e7", "1e8", "1e9"};
  if (smoke) defaults = {"5000"};
  std::vector<std::int64_t> params;
  for (const std::string& word : list_of(arguments, "params", defaults)) {
    params.push_back(bench::Arguments({{"params", word}}).count("params", 1));
  }
  return params;
}

}  // namespace

Settings settings_of(const bench::Arguments& arguments, bool smoke) {
  arguments.check_known({"sections", "precisions", "params", "networks", "graphs", "json",
                         "time-limit", "rounds", "threads"});
  Settings settings;
  settings.smoke = smoke;
  settings.sections = list_of(arguments, "sections", kSections);
  for (const std::string& section : settings.sections) {
    (void)bench::Arguments({{"sections", section}}).choice("sections", "", kSections);
  }
  for (const std::string& name : list_of(arguments, "precisions", {"f32", "tf32", "bf16"})) {
    settings.precisions.push_back(parse_precision(name));
  }
  settings.params = params_of(arguments, smoke);
  settings.networks =
      list_of(arguments, "networks", smoke ? std::vector<std::string>{"lenet"} : kNetworks);
  settings.graphs = arguments.string("graphs", "bench/graphs");
  settings.json = arguments.string("json", "");
  settings.time_limit = arguments.number("time-limit", 0);
  settings.plan.rounds = static_cast<int>(arguments.count("rounds", smoke ? 1 : 7));
  if (smoke) settings.plan.round_seconds = 0;
  if (const std::int64_t threads = arguments.integer("threads", 0); threads > 0) {
    set_thread_count(static_cast<int>(threads));
  }
  return settings;
}

BenchRun::BenchRun(Settings settings) : settings_(std::move(settings)) {
  document_ = {{"schemaVersion", 1},
               {"smoke", settings_.smoke},
               {"rounds", settings_.plan.rounds},
               {"hostThreads", thread_count()},
               {"device", nullptr},
               {"steps", Json::array()},
               {"checks", Json::array()}};
  // Opened once here so that a machine without a device is told in one line.
  document_["device"] = describe(open(Precision::kF32)->info());
}

void BenchRun::section(const std::string& name, const std::function<void()>& work) {
  const std::vector<std::string>& chosen = settings_.sections;
  if (std::find(chosen.begin(), chosen.end(), name) == chosen.end()) return;
  step(name, work);
}

void BenchRun::step(const std::string& name, const std::function<void()>& work) {
  if (late()) {
    skip(name, "the time limit was reached");
    return;
  }
  const double start = elapsed();
  Json entry = {{"step", name}, {"status", "ran"}};
  try {
    work();
  } catch (const std::exception& e) {
    failed_ = true;
    entry["status"] = "failed";
    entry["reason"] = e.what();
    std::fprintf(stderr, "FAILED: %s: %s\n", name.c_str(), e.what());
  }
  entry["seconds"] = elapsed() - start;
  document_["steps"].push_back(entry);
  save();
}

void BenchRun::skip(const std::string& name, const std::string& reason) {
  std::fprintf(stderr, "SKIPPED: %s: %s\n", name.c_str(), reason.c_str());
  document_["steps"].push_back({{"step", name}, {"status", "skipped"}, {"reason", reason}});
}

double BenchRun::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

bool BenchRun::late() const { return settings_.time_limit > 0 && elapsed() > settings_.time_limit; }

void BenchRun::check(const std::string& name, std::string_view precision, double error,
                     double limit) {
  const bool holds = error <= limit;  // false for NaN
  document_["checks"].push_back({{"check", name},
                                 {"precision", precision},
                                 {"error", error},
                                 {"limit", limit},
                                 {"holds", holds}});
  if (holds) return;
  failed_ = true;
  std::fprintf(stderr, "FAILED: %s (%.*s): %g, at most %g\n", name.c_str(),
               static_cast<int>(precision.size()), precision.data(), error, limit);
}

void BenchRun::check_equal(const std::string& name, bool equal) {
  check(name, "exact", equal ? 0 : 1, 0);
}

std::shared_ptr<Device> BenchRun::open(Precision precision) {
  DeviceOptions options;
  options.precision = precision;
  return open_cuda_device(options);
}

void BenchRun::save() const {
  if (settings_.json.empty()) return;
  // A reader of a run that is cut off finds the last whole document.
  const std::string fresh = settings_.json + ".new";
  std::ofstream out(fresh);
  out << document_.dump(1) << "\n";
  out.close();
  FM_CHECK(out.good() && std::rename(fresh.c_str(), settings_.json.c_str()) == 0, IO,
           "could not write ", settings_.json);
}

Json describe(const Timing& timing) {
  return {{"milliseconds", timing.median() * 1e3},
          {"bestMilliseconds", timing.best() * 1e3},
          {"spread", timing.spread()},
          {"repeats", timing.repeats}};
}

Json describe(const DeviceInfo& info) {
  return {{"kind", info.kind},
          {"index", info.index},
          {"name", info.name},
          {"memoryBytes", info.memory_bytes},
          {"computeCapability", info.compute_capability},
          {"processors", info.processors},
          {"emulated", info.emulated},
          {"matmulLibrary", info.matmul_library},
          {"convolutionLibrary", info.convolution_library}};
}

}  // namespace fishermask::cuda_bench
