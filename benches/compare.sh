#!/usr/bin/env bash
# Times this build and the Python program turn about on this machine, and prints medians
# and ratios as a Markdown table.
#
# usage: benches/compare.sh [--device cpu|libtorch|cuda] PEER_VENV [ROUNDS]
#
# --device   cpu (as both programs are by default); libtorch: this program's LibTorch backend on the
#            CPU, with the libtorch that LIBTORCH names; or cuda: this program's CUDA backend in bf16
#            and the Python program under torch.compile and bf16 autocast, and both in f32
# PEER_VENV  a virtual environment with the Python AstroPT and PyTorch (for cuda, one with CUDA)
# ROUNDS     how often both are run, in turn (default 5)
# PEER_SCRIPT, STAMPS  (environment) the script that times the Python program on the CPU, and a
#            folder of galaxy images; by default those beside the checkout, in ../shared
set -euo pipefail

# The comment above.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
wrong() {
  echo "compare.sh: $*; benches/compare.sh --help says how it is used" >&2
  exit 2
}
device=cpu
words=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --device=*) device=${1#*=} ;;
    --device) device=${2-}; shift $(($# > 1)) ;;
    -*) wrong "$1 is no option" ;;
    *) words+=("$1") ;;
  esac
  shift
done
case $device in
  cpu | libtorch | cuda) ;;
  *) wrong "--device '$device': cpu, libtorch and cuda are known" ;;
esac
case ${#words[@]} in
  1 | 2) ;;
  *) wrong "PEER_VENV is wanted, and at most ROUNDS beside it" ;;
esac
venv=${words[0]}
rounds=${words[1]:-5}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || wrong "ROUNDS '$rounds' is not a whole number above 0"
root=$(cd "$(dirname "$0")/.." && pwd)
peer=${PEER_SCRIPT:-$root/../shared/bench/peer_train.py}
stamps=${STAMPS:-$root/../shared/data/galaxies/galaxy10_decals_110_256px}
needed=("$venv/bin/python")
features=()
case $device in
  cpu) needed+=("$peer" "$stamps") ;;
  libtorch) needed+=("$peer"); features=(--features libtorch) ;;
  cuda) features=(--features cuda); peer=$root/benches/python_cuda.py ;;
esac
for path in "${needed[@]}"; do
  [ -e "$path" ] || wrong "$path is not there"
done
(cd "$root" && cargo build --release --locked --quiet "${features[@]}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" "$root/benches/compare.py" "${CARGO_TARGET_DIR:-$root/target}/release/astropt" \
  "$peer" "$stamps" "$work" "$rounds" "$device"
