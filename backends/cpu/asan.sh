#!/usr/bin/env bash
# The tests of the CPU's kernels under AddressSanitizer, which knows every vector level. The
# compiler of a stable toolchain has it behind RUSTC_BOOTSTRAP, and its runtime is part of the
# toolchain. Everything is built anew, in a folder of its own: ten minutes on two cores.
#
#   backends/cpu/asan.sh [TARGET_DIR]
set -euo pipefail
cd "$(dirname "$0")/../.."
target="${1:-target/asan}"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="$target" \
    cargo test --locked --release --target x86_64-unknown-linux-gnu -p astropt-cpu "${@:2}"
