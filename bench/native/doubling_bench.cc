// How the Fisher's time grows: with the samples of a pass, and with a network's parameters. Cost
// that is linear doubles at every step.
#include <cmath>
#include <memory>

#include "bench_network.h"
#include "benchmarks.h"
#include "document.h"
#include "fisher/fisher_pass.h"
#include "timing.h"

namespace fishermask::bench {
namespace {

constexpr int kDefaultRounds = 5;
constexpr std::int64_t kDefaultSteps = 4;
constexpr std::int64_t kMostSteps = 16;

struct Size {
  std::string network;
  std::int64_t samples = 0, parameters = 0;
};

struct Series {
  std::vector<Size> sizes;
  std::vector<Timed> pieces;
};

// Owns what the pieces use.
class Growth {
 public:
  // `steps` sizes of one network: batch, 2 batch, 4 batch, ... samples, in batches of one size.
  void by_samples(const Arguments& arguments) {
    const std::int64_t steps = arguments.count("steps", kDefaultSteps);
    FM_CHECK(steps <= kMostSteps, ARGUMENT, "Expected at most ", kMostSteps,
             " for --steps but received ", steps);
    add_network(graph_text(arguments), arguments);
    for (std::int64_t step = 0; step < steps; ++step) add_size(0, std::int64_t{1} << step);
  }

  // One batch of each network.
  void by_parameters(const Arguments& arguments) {
    const Json graphs = Json::parse(arguments.string("graphs-json", ""), nullptr, false);
    FM_CHECK(graphs.is_array() && !graphs.empty(), ARGUMENT,
             "Expected a JSON list of graphs for --graphs-json but received something else");
    for (const Json& graph : graphs) {
      add_network(graph.dump(), arguments);
      add_size(networks_.size() - 1, 1);
    }
  }

  [[nodiscard]] Series& series() { return series_; }

 private:
  void add_network(const std::string& graph, const Arguments& arguments) {
    networks_.push_back(
        std::make_unique<BenchNetwork>(graph, arguments.count("batch", 64),
                                       static_cast<std::uint64_t>(arguments.integer("seed", 0))));
    passes_.push_back(std::make_unique<FisherPass>(networks_.back()->network, FisherOptions{}));
  }
  void add_size(std::size_t index, std::int64_t batches) {
    const BenchNetwork& bench = *networks_[index];
    FisherPass& pass = *passes_[index];
    series_.sizes.push_back(
        {bench.network.graph().name(), batches * bench.samples, bench.parameter_count()});
    series_.pieces.push_back({"fisher", [&bench, &pass, batches] {
                                for (std::int64_t i = 0; i < batches; ++i) {
                                  throw_if_stopped();
                                  const std::int64_t first = i * bench.samples;
                                  pass.step(bench.batch, bench.labels,
                                            static_cast<std::uint64_t>(first));
                                }
                              }});
  }

  std::vector<std::unique_ptr<BenchNetwork>> networks_;
  std::vector<std::unique_ptr<FisherPass>> passes_;
  Series series_;
};

// The slope of log time over log size, by least squares: 1 where cost is linear. Null for one size.
Json slope(const std::vector<double>& sizes, const std::vector<double>& seconds) {
  const auto count = static_cast<double>(sizes.size());
  double mean_x = 0, mean_y = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    mean_x += std::log(sizes[i]) / count;
    mean_y += std::log(seconds[i]) / count;
  }
  double xx = 0, xy = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const double x = std::log(sizes[i]) - mean_x;
    xx += x * x;
    xy += x * (std::log(seconds[i]) - mean_y);
  }
  return xx > 0 ? Json(xy / xx) : Json(nullptr);
}

}  // namespace

Json doubling_benchmark(const Arguments& arguments) {
  arguments.check_known({"axis", "graph", "graph-json", "graphs-json", "batch", "seed", "steps"});
  const std::string axis = arguments.choice("axis", "samples", {"samples", "parameters"});
  const int rounds = rounds_of(arguments, kDefaultRounds);
  Growth growth;
  if (axis == "samples") {
    growth.by_samples(arguments);
  } else {
    growth.by_parameters(arguments);
  }
  Series& series = growth.series();
  run_rounds(series.pieces, rounds, clock_of(arguments));

  Json rows = Json::array();
  std::vector<double> sizes, seconds;
  for (std::size_t i = 0; i < series.sizes.size(); ++i) {
    const Size& size = series.sizes[i];
    const Timed& piece = series.pieces[i];
    sizes.push_back(static_cast<double>(axis == "samples" ? size.samples : size.parameters));
    seconds.push_back(piece.median());
    Json row = {{"network", size.network},
                {"samples", size.samples},
                {"parameters", size.parameters},
                {"seconds", piece.median()}};
    row.update(describe(piece));
    rows.push_back(row);
  }
  Json document = {{"axis", axis}, {"batch", arguments.count("batch", 64)}};
  document.update(settings_of(arguments, rounds));
  document["series"] = rows;
  document["logSlope"] = slope(sizes, seconds);
  document["definitions"] = {
      {"logSlope", "slope of log seconds over log size, least squares; 1 is linear"},
      {"seconds", "median over the rounds; every round runs each size once"}};
  return document;
}

}  // namespace fishermask::bench
