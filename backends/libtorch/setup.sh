#!/usr/bin/env bash
# Makes a libtorch without CUDA in a folder.
#
# usage: backends/libtorch/setup.sh DIR    (makes DIR/include and DIR/lib)
#
# PyTorch's wheels from the package index that pip is configured for hold everything, the CPU
# library and gigabytes for CUDA; of them this unpacks the headers and what the CPU library
# needs (450 MB). Wants Python 3 with pip, 2 GB of room while it works, and no compiler.
# The version is the one that the crates `burn-tch` and `tch` are written for. A DIR that holds it
# is left as it is; one with headers or libraries of anything else is refused.
#
# PYTHON  (environment) the interpreter, by default python3
set -euo pipefail

torch=2.9.0
cuda=12.8.90

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
mkdir -p "$1"
folder=$(cd "$1" && pwd)
if [ "$(cat "$folder/build-version" 2>/dev/null)" = "$torch" ]; then
    echo "$folder holds libtorch $torch already"
    exit 0
fi
for part in include lib; do
    # Headers of two versions do not make one libtorch.
    if [ -e "$folder/$part" ]; then
        echo "$0: $folder/$part is there, and not of libtorch $torch; name an empty folder, or" \
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
packages=("torch==$torch")
# PyTorch's CPU library of Linux on x86-64 is linked with two small libraries of CUDA.
if [ "$(uname -sm)" = "Linux x86_64" ]; then
    packages+=("nvidia-cuda-runtime-cu12==$cuda" "nvidia-cuda-cupti-cu12==$cuda")
fi
# The interpreter's version decides about Python's extension modules, which are left out.
"$python" -m pip download --no-deps --no-cache-dir --only-binary=:all: --python-version 3.11 \
    --dest "$wheels" "${packages[@]}"

# Unpacked beside the wheels first, so that what is left of an interrupted run is in nobody's way.
"$python" - "$wheels" "$wheels/whole" <<'END'
import pathlib, shutil, sys, zipfile

wheels, folder = map(pathlib.Path, sys.argv[1:])
# Libraries that nothing but Python or a GPU needs.
unneeded = ("cuda", "nvrtc", "nvshmem", "python", "shm", "global_deps")


def place(name):
    """Where a file of a wheel goes, or None."""
    parts = name.split("/")
    if name.endswith("/") or ".." in parts:
        return None
    if name.startswith("torch/include/"):
        return folder.joinpath("include", *parts[2:])
    library = ".so" in parts[-1] or parts[-1].endswith(".dylib")
    own = name.startswith(("torch/lib/", "torch.libs/"))
    if library and own and not any(word in parts[-1] for word in unneeded):
        return folder / "lib" / parts[-1]
    if parts[0] == "nvidia" and parts[-1] in ("libcudart.so.12", "libcupti.so.12"):
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
echo "$torch" >"$folder/build-version"
echo "libtorch $torch is in $folder; build with LIBTORCH=$folder"
