#!/usr/bin/env bash
# The tests of the CPU's kernels under valgrind's memcheck: reads and writes past the end of a
# tensor's memory, and decisions on what nobody wrote. In these tests every tensor has a block of
# its own, exactly as long as it is and full of NaN at first (src/kernels/pool.rs).
#
#   backends/cpu/memcheck.sh target/release/deps/astropt_cpu-HASH
#
# memcheck knows AVX2 and no AVX-512, so the portable kernels and those of AVX2 are run. Random
# shapes are few (PROPTEST_CASES=24 for as many as in the tests), the longest tests left out, and
# there is one thread, for valgrind runs one at a time: two minutes.
set -euo pipefail
tests="${1:?the program that cargo made of the unit tests of astropt-cpu}"
PROPTEST_CASES="${PROPTEST_CASES:-2}" RAYON_NUM_THREADS=1 \
    valgrind --quiet --error-exitcode=9 --leak-check=no \
    "$tests" --test-threads=1 --skip long_rows --skip number_of_threads --skip the_kernels_agree
