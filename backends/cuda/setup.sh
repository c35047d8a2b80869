#!/usr/bin/env bash
# Puts what the CUDA backend needs beside NVIDIA's driver into a folder.
#
# usage: backends/cuda/setup.sh DIR    (makes DIR/include and DIR/lib)
#
# That is NVRTC, which compiles kernels when they are first used, and CUDA's headers, out of
# NVIDIA's own wheels on the package index that pip is configured for (130 MB to load, as much in
# DIR). The program finds them by CUDA_PATH=DIR. Wants Python 3 with pip; no compiler, no toolkit.
#
# A DIR that holds the version asked for is left as it is; one with headers or libraries of anything
# else is refused.
#
# CUDA    (environment) their version, 12.x, by default 12.8; not above what `nvidia-smi` names as
#         the driver's CUDA
# PYTHON  (environment) the interpreter, by default python3
set -euo pipefail

cuda=${CUDA:-12.8}

# The comment above.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    usage
    exit 0
elif [ $# -ne 1 ] || [[ -z $1 || $1 = -* ]]; then
    echo "$0: wants one folder, not \"$*\"; $0 --help says more" >&2
    exit 2
fi
python=${PYTHON:-python3}
if [[ ! $cuda =~ ^12\.[0-9]+$ ]]; then
    echo "$0: CUDA=$cuda: only 12.x is taken, such as 12.8" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
if [ "$(cat "$folder/version" 2>/dev/null)" = "$cuda" ]; then
    echo "$folder holds NVRTC $cuda already"
    exit 0
fi
for part in include lib; do
    # Headers of two versions do not make one CUDA.
    if [ -e "$folder/$part" ]; then
        echo "$0: $folder/$part is there, and not of NVRTC $cuda; name an empty folder, or" \
            "delete $folder/include and $folder/lib if nothing else needs them" >&2
        exit 1
    fi
done
"$python" -m pip --version >/dev/null || {
    echo "$0: $python has no pip; install it, or name another interpreter in PYTHON" >&2
    exit 1
}

wheels=$(mktemp -d "$folder/.wheels.XXXXXX")
trap 'rm -rf "$wheels"' EXIT
# The runtime's wheel has the headers, but for some that lie with the compiler and with cccl.
"$python" -m pip download --no-deps --no-cache-dir --only-binary=:all: --dest "$wheels" \
    "nvidia-cuda-nvrtc-cu12==$cuda.*" "nvidia-cuda-runtime-cu12==$cuda.*" \
    "nvidia-cuda-nvcc-cu12==$cuda.*" "nvidia-cuda-cccl-cu12==$cuda.*"

# Unpacked beside the wheels first, so that what is left of an interrupted run is in nobody's way.
"$python" - "$wheels" "$wheels/whole" <<'END'
import pathlib, shutil, sys, zipfile

wheels, folder = map(pathlib.Path, sys.argv[1:])


def place(name):
    """Where a file of a wheel goes, or None."""
    parts = name.split("/")
    if name.endswith("/") or ".." in parts or parts[0] != "nvidia" or len(parts) < 4:
        return None
    if parts[2] == "include":
        return folder.joinpath(*parts[2:])
    if parts[2] == "lib" and parts[-1].startswith("libnvrtc") and ".alt." not in parts[-1]:
        return folder / "lib" / parts[-1]
    return None


for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            target = place(entry)
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
END
mv "$wheels/whole/include" "$wheels/whole/lib" "$folder"
# Written last: a folder that has it is whole.
echo "$cuda" >"$folder/version"
echo "NVRTC $cuda is in $folder; run with CUDA_PATH=$folder"
