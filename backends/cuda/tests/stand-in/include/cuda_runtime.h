// CUDA for a processor: what the C++ that CubeCL generates uses of CUDA's runtime.
//
// A function of CUDA that rounds as IEEE 754 says is the processor's; those that CUDA has in a
// quick form (`__expf`) are exact here. What is missing is an error of compilation, never a guess.
#pragma once

#include "stand_in.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// One to an operating system's thread, of which each runs one block at a time; the driver's.
#define __shared__ __thread

using uint3 = stand_in_index;
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
#define threadIdx stand_in_here.thread
#define blockIdx stand_in_here.block
#define blockDim stand_in_here.block_size
#define gridDim stand_in_here.grid_size
static constexpr int warpSize = 32;

struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };

// How the driver, which knows nothing of a kernel's parameters, runs it for one thread, and how
// large they are, for it to copy what they are given.
namespace stand_in {
template <int... K> struct Numbers {};
template <class... Parameters, int... K>
void call(void (*kernel)(Parameters...), void **arguments, Numbers<K...>) {
    kernel(*static_cast<Parameters *>(arguments[K])...);
}
template <class... Parameters> void call(void (*kernel)(Parameters...), void **arguments) {
    call(kernel, arguments, Numbers<__integer_pack(sizeof...(Parameters))...>());
}
template <class... Parameters> struct Sizes {
    unsigned long all[sizeof...(Parameters) + 1] = {sizeof(Parameters)..., 0};
};
template <class... Parameters> Sizes<Parameters...> sizes(void (*)(Parameters...));
} // namespace stand_in
#define STAND_IN_KERNEL(name)                                                                      \
    extern "C" void stand_in_call_##name(void **arguments) { stand_in::call(name, arguments); }    \
    extern "C" decltype(stand_in::sizes(name)) stand_in_sizes_##name = {};

#include "stand_in_math.h"
#include "stand_in_warp.h"
