// fishermask_bench network|ops|kernels|mask [--name value]...
#include <exception>
#include <iostream>

#include "benchmarks.h"
#include "core/parallel.h"

int main(int argc, char** argv) {
  using namespace fishermask;
  const std::vector<std::string> words(argv + 1, argv + argc);
  const std::map<std::string, void (*)(const bench::Arguments&)> benchmarks = {
      {"network", bench::network_benchmark},
      {"ops", bench::op_benchmark},
      {"kernels", bench::kernel_benchmark},
      {"mask", bench::mask_benchmark}};
  try {
    const auto found = words.empty() ? benchmarks.end() : benchmarks.find(words[0]);
    FM_CHECK(found != benchmarks.end(), ARGUMENT,
             "expected network, ops, kernels or mask, then --name value pairs");
    const bench::Arguments arguments({words.begin() + 1, words.end()});
    set_thread_count(static_cast<int>(arguments.integer("threads", thread_count())));
    found->second(arguments);
    return 0;
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 2;
  }
}
