// One run of the CUDA benchmark: its settings, the document that it writes, and its sections, each
// of which may fail or be left out without the others.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/native/arguments.h"
#include "core/device.h"
#include "timing.h"

namespace fishermask::cuda_bench {

using Json = nlohmann::ordered_json;

struct Settings {
  bool smoke = false;  // sizes that the emulation can run: figures mean nothing
  std::vector<std::string> sections;
  std::vector<Precision> precisions;
  std::vector<std::int64_t> params;  // of the masking
  std::vector<std::string> networks;
  std::string graphs;     // the folder of graph files
  std::string json;       // where the document goes; empty: nowhere
  double time_limit = 0;  // seconds, after which nothing new is begun; 0: none
  TimingPlan plan;
};

// --sections, --precisions, --params, --networks (lists with commas), --graphs, --json,
// --time-limit, --rounds,
// --threads. Errors: ARGUMENT.
[[nodiscard]] Settings settings_of(const bench::Arguments& arguments, bool smoke);

class BenchRun {
 public:
  explicit BenchRun(Settings settings);

  [[nodiscard]] const Settings& settings() const { return settings_; }
  // The document: lists and objects that sections fill.
  [[nodiscard]] Json& document() { return document_; }
  [[nodiscard]] const Json& document() const { return document_; }
  [[nodiscard]] bool failed() const { return failed_; }

  // Runs `work` if the section was chosen and there is time, and writes the document. What it
  // throws is written down as this section's (or this item's) failure.
  void section(const std::string& name, const std::function<void()>& work);
  // A part of a section, with a name of its own among the steps.
  void step(const std::string& name, const std::function<void()>& work);
  // Left out, and why.
  void skip(const std::string& name, const std::string& reason);
  [[nodiscard]] bool late() const;

  // A correctness check: error against limit. A figure above it fails the run.
  void check(const std::string& name, std::string_view precision, double error, double limit);
  void check_equal(const std::string& name, bool equal);

  // A fresh device, so that one section's memory is gone in the next.
  [[nodiscard]] static std::shared_ptr<Device> open(Precision precision);
  void save() const;

 private:
  [[nodiscard]] double elapsed() const;

  Settings settings_;
  Json document_;
  bool failed_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

[[nodiscard]] Json describe(const Timing& timing);
[[nodiscard]] Json describe(const DeviceInfo& info);

// The sections, in the order in which they run.
void run_correctness(BenchRun& run);
void run_ceilings(BenchRun& run);
void run_squares(BenchRun& run);
void run_top_k(BenchRun& run);
void run_networks(BenchRun& run);
void run_convolutions(BenchRun& run);

// GFLOP/s of the fastest linear layer measured at this precision; 0 before run_ceilings.
[[nodiscard]] double matmul_gflops(const BenchRun& run, std::string_view precision);
// The document as a few short tables.
void print_tables(const Json& document);

}  // namespace fishermask::cuda_bench
