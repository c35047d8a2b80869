#!/usr/bin/env bash
# Makes DIR a CUDA for machines without a GPU, whose kernels run on the processors: build.sh DIR
# (a new or empty folder, or one that this script made)
#
#     cd DIR && LD_LIBRARY_PATH=DIR CUDA_PATH=DIR XDG_CACHE_HOME=DIR/kept astropt ...
#
# XDG_CACHE_HOME keeps what is compiled and tuned away from a real GPU's, and in DIR a
# `cubecl.toml` gives every tensor memory of its own, between guards. With CUDA_PATH of a real CUDA
# (backends/cuda/setup.sh) its NVRTC compiles the kernels, and none is run. Wants gcc and g++.
# STAND_IN_LOG=1, STAND_IN_REVERSED=1, STAND_IN_MEMORY=BYTES, STAND_IN_REFUSE=K and STAND_IN_LATE=1
# are described in nvrtc.c, execute.c, memory.c and stream.c. With the last the work of streams is
# done as late as CUDA allows, and not at once: a GPU does it at any time in between, and a wait that
# is missing shows at one end or at the other.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The comment above.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    usage
    exit 0
elif [ $# -ne 1 ] || [[ -z $1 || $1 = -* ]]; then
    echo "$0: wants one folder, not \"$*\"; $0 --help says more" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
made=$folder/made-by-stand-in
if [ ! -e "$made" ] && [ -n "$(ls -A "$folder")" ]; then
    echo "$0: $folder holds something else; name a new folder" >&2
    exit 1
fi
: > "$made"
# What was compiled by other headers is of no use.
rm -rf "$folder/images" "$folder/include" "$folder/kept"
mkdir -p "$folder/lib"
cp -R "$here/include" "$folder/include"
printf '[memory]\npersistent_memory = "enforced"\n' > "$folder/cubecl.toml"

flags=(-O2 -shared -fPIC -pthread -Wall -Wno-format-truncation)
gcc "${flags[@]}" -Wl,-soname,libcuda.so.1 -o "$folder/libcuda.so.1" \
    "$here"/{driver,memory,stream,execute,stack}.c -ldl
gcc "${flags[@]}" -Wl,-soname,libnvrtc.so.12 -o "$folder/lib/libnvrtc.so.12" "$here/nvrtc.c" -ldl

# They are tried on kernels that are right and on kernels that are not, and on streams that wait
# and streams that do not, done at once and late; each in a process of its own, for a kernel that is
# not right ends its use of a GPU. What is said of those is shown only where the stand-ins took one
# for what it is not.
g++ -std=c++17 -O1 -Wall -o "$folder/faults" "$here/faults.cpp" "$folder/libcuda.so.1" \
    "$folder/lib/libnvrtc.so.12" -Wl,-rpath,"$folder:$folder/lib"
for name in $("$folder/faults"); do
    for late in "" STAND_IN_LATE=1; do
        env $late "$folder/faults" "$name" 2> "$folder/faults.log" || {
            cat "$folder/faults.log" >&2
            echo "$0: the stand-ins fail at $name ${late:-at once}" >&2
            exit 1
        }
    done
done
