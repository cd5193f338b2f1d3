// Loops over memory that are compiled for several generations of processors.
#pragma once

/// Before a function: it is compiled for three generations of x86-64 processors, and which one runs is decided at
/// start. Numbers do not depend on it: no product and sum become one operation unless the loop says so
/// (__builtin_fmaf).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define TROUPE_FAST_LOOP                                                       \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), \
                 optimize("O3", "fp-contract=off", "no-trapping-math")))
#define TROUPE_HAS_FAST_LOOPS 1
#else
#define TROUPE_FAST_LOOP
#define TROUPE_HAS_FAST_LOOPS 0
#endif

/// Before a function that such loops call: calls of others, those of the standard library too, would not be compiled
/// for the loop's processor.
#define TROUPE_INLINE inline __attribute__((always_inline))
