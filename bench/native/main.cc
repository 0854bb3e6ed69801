// fishermask_bench fisher|ops|kernels|mask|doubling [--name value]...: one JSON document on stdout.
#include <exception>
#include <iostream>

#include "benchmarks.h"

int main(int argc, char** argv) {
  using namespace fishermask;
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    FM_CHECK(!words.empty(), ARGUMENT,
             "expected fisher, ops, kernels, mask or doubling, then --name value pairs");
    const auto arguments = bench::Arguments::of_words({words.begin() + 1, words.end()});
    std::cout << bench::run_benchmark(words[0], arguments).dump(1) << "\n";
    return 0;
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 2;
  }
}
