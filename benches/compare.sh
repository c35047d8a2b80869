#!/usr/bin/env bash
# Times this build and the Python program turn about on this machine, and prints medians
# and ratios as a Markdown table.
#
# usage: benches/compare.sh PEER_VENV [ROUNDS]
#
# PEER_VENV  a virtual environment with the Python AstroPT and PyTorch
# ROUNDS     how often both are run, in turn (default 5)
# PEER_SCRIPT, STAMPS  (environment) the script that times the Python program, and a folder
#            of galaxy images; by default those beside the checkout, in ../shared
set -euo pipefail

venv=${1:?"usage: benches/compare.sh PEER_VENV [ROUNDS]"}
rounds=${2:-5}
root=$(cd "$(dirname "$0")/.." && pwd)
peer=${PEER_SCRIPT:-$root/../shared/bench/peer_train.py}
stamps=${STAMPS:-$root/../shared/data/galaxies/galaxy10_decals_110_256px}
for needed in "$venv/bin/python" "$peer" "$stamps"; do
  [ -e "$needed" ] || { echo "compare.sh: $needed is not there" >&2; exit 2; }
done
(cd "$root" && cargo build --release --locked --quiet)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" "$root/benches/compare.py" "${CARGO_TARGET_DIR:-$root/target}/release/astropt" \
  "$peer" "$stamps" "$work" "$rounds"
