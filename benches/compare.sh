#!/usr/bin/env bash
# Times this build and the Python program turn about on this machine, and prints medians
# and ratios as a Markdown table.
#
# usage: benches/compare.sh [--device cpu|cuda] PEER_VENV [ROUNDS]
#
# --device   cpu (as both programs are by default), or cuda: this program's CUDA backend in bf16
#            and the Python program under torch.compile and bf16 autocast, and both in f32
# PEER_VENV  a virtual environment with the Python AstroPT and PyTorch (for cuda, one with CUDA)
# ROUNDS     how often both are run, in turn (default 5)
# PEER_SCRIPT, STAMPS  (environment) the script that times the Python program on the CPU, and a
#            folder of galaxy images; by default those beside the checkout, in ../shared
set -euo pipefail

usage="usage: benches/compare.sh [--device cpu|cuda] PEER_VENV [ROUNDS]"
device=cpu
if [ "${1:-}" = --device ]; then
  device=${2:?"$usage"}
  shift 2
fi
venv=${1:?"$usage"}
rounds=${2:-5}
root=$(cd "$(dirname "$0")/.." && pwd)
peer=${PEER_SCRIPT:-$root/../shared/bench/peer_train.py}
stamps=${STAMPS:-$root/../shared/data/galaxies/galaxy10_decals_110_256px}
needed=("$venv/bin/python")
features=()
case $device in
  cpu) needed+=("$peer" "$stamps") ;;
  cuda) features=(--features cuda); peer=$root/benches/python_cuda.py ;;
  *) echo "compare.sh: --device $device: cpu and cuda are known" >&2; exit 2 ;;
esac
for path in "${needed[@]}"; do
  [ -e "$path" ] || { echo "compare.sh: $path is not there" >&2; exit 2; }
done
(cd "$root" && cargo build --release --locked --quiet "${features[@]}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" "$root/benches/compare.py" "${CARGO_TARGET_DIR:-$root/target}/release/astropt" \
  "$peer" "$stamps" "$work" "$rounds" "$device"
