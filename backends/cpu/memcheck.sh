#!/usr/bin/env bash
# The tests of the CPU's kernels under valgrind's memcheck: reads and writes past the end of a
# tensor's memory, and decisions on what nobody wrote. In these tests every tensor has a block of
# its own, exactly as long as it is (src/kernels/pool.rs).
#
#   backends/cpu/memcheck.sh target/release/deps/astropt_cpu-HASH
#
# memcheck knows AVX2 and no AVX-512, so the portable kernels and those of AVX2 are run; for the
# others see asan.sh. Random shapes are few, and the longest tests left out: two minutes.
set -euo pipefail
tests="${1:?the program that cargo made of the unit tests of astropt-cpu}"
PROPTEST_CASES="${PROPTEST_CASES:-3}" RAYON_NUM_THREADS=2 \
    valgrind --quiet --error-exitcode=9 --leak-check=no --undef-value-errors=yes \
    "$tests" --test-threads=1 --skip long_rows --skip number_of_threads
