#include "benchmarks.h"

#include <functional>
#include <map>

#include "core/parallel.h"
#include "stop.h"

namespace fishermask::bench {

Json run_benchmark(const std::string& name, const Arguments& arguments,
                   const std::atomic<bool>* stop) {
  static const std::map<std::string, std::function<Json(const Arguments&)>> benchmarks = {
      {"fisher", network_benchmark}, {"network", network_benchmark},
      {"ops", op_benchmark},         {"kernels", kernel_benchmark},
      {"mask", mask_benchmark},      {"doubling", doubling_benchmark}};
  const auto found = benchmarks.find(name);
  FM_CHECK(found != benchmarks.end(), ARGUMENT,
           "Expected fisher, ops, kernels, mask or doubling for the benchmark but received ", name);
  set_thread_count(static_cast<int>(arguments.count("threads", thread_count())));
  // Once for all: a median of no rounds does not exist.
  (void)arguments.count("rounds", 1);
  const StopScope scope(stop);
  return found->second(arguments);
}

}  // namespace fishermask::bench
