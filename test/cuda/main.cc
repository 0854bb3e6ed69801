// The CUDA backend against the CPU's engine. The library is the one that FISHERMASK_CUDA_LIBRARY
// names (the emulation's, where there is no GPU); without a usable device every case fails unless
// FISHERMASK_CUDA_SKIP=1.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
