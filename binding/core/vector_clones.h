// FM_VECTOR_CLONES: compiles a function for several vector widths, picked when the library loads.
// For plain loops whose elements do not depend on one another, so that the width cannot change a
// result, and for sums whose order the caller has fixed by other means.
#pragma once

#include <cstdlib>  // defines __GLIBC__ where there is one

// Function multiversioning needs ifunc (glibc), and its resolvers run before sanitizers are ready.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FM_VECTOR_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FM_VECTOR_CLONES
#endif

// Inlined helpers take the vector width of the clone that they land in.
#define FM_INLINE_IN_CLONES [[gnu::always_inline]] inline
