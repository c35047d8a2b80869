#!/usr/bin/env bash
# Makes DIR a CUDA for machines without a GPU, whose kernels run on the processors: build.sh DIR
#
# It is used by LD_LIBRARY_PATH=DIR CUDA_PATH=DIR, and XDG_CACHE_HOME=DIR/kept to keep what CubeCL
# compiles away from a real GPU's. With CUDA_PATH of a real CUDA and DIR without libnvrtc.so.12
# kernels are compiled by that and not run. Wants gcc and g++.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
# What was compiled by other headers is of no use.
rm -rf "$1/images" "$1/include" "$1/kept"
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cp -R "$here/include" "$folder/include"
flags=(-O2 -shared -fPIC -pthread -Wall -Werror -Wno-format-truncation)
gcc "${flags[@]}" -Wl,-soname,libcuda.so.1 -o "$folder/libcuda.so.1" \
    "$here"/{driver,memory,execute,stack}.c -ldl
gcc "${flags[@]}" -o "$folder/libnvrtc.so.12" "$here/nvrtc.c" -ldl

# They are tried on kernels that are right, and on kernels that are not, of which one ends a
# process' use of a GPU. What is wrong with those is said, and only shown where it should not be.
g++ -std=c++17 -O1 -Wall -o "$folder/faults" "$here/faults.cpp" \
    "$folder/libcuda.so.1" "$folder/libnvrtc.so.12" -Wl,-rpath,"$folder"
for name in $("$folder/faults"); do
    "$folder/faults" "$name" 2> "$folder/faults.log" || {
        cat "$folder/faults.log" >&2
        echo "$0: the stand-in fails at $name" >&2
        exit 1
    }
done
