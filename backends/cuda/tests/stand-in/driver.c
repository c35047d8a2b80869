// A stand-in for NVIDIA's driver where there is no GPU: it has one device, keeps its memory in
// the processor's, and runs no kernel. With it, CUDA's real run-time compiler compiles every
// kernel of a training step, and each launch is looked at. What comes out is nonsense.
//
//     cc -shared -fPIC -o DIR/libcuda.so.1 driver.c
//     LD_LIBRARY_PATH=DIR CUDA_PATH=… astropt bench train --backend cuda --scale 1M
//
// Functions as in NVIDIA's "CUDA Driver API"; only those that CubeCL calls.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result; // 0: success
typedef unsigned long long Pointer;

// Attributes of a device of compute capability 9.0, by number.
static const int ATTRIBUTES[][2] = {
    {1, 1024},                     // threads of a block
    {2, 1024}, {3, 1024}, {4, 64}, // along its axes
    {5, 2147483647}, {6, 65535}, {7, 65535}, // blocks of a grid
    {10, 32},                      // threads of a warp
    {16, 132},                     // multiprocessors
    {75, 9}, {76, 0},              // compute capability
    {97, 232448},                  // shared memory of a block
};

Result cuInit(unsigned flags) { return 0; }
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int index) { *device = index; return 0; }
Result cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "stand-in that computes nothing");
    return 0;
}
Result cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 0, 16); return 0; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)16 << 30; return 0; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = 0;
    for (size_t k = 0; k < sizeof ATTRIBUTES / sizeof *ATTRIBUTES; k++)
        if (ATTRIBUTES[k][0] == attribute) *value = ATTRIBUTES[k][1];
    return 0;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = ""; return 0; }
Result cuCtxSetCurrent(void *context) { return 0; }
Result cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return 0; }
Result cuStreamSynchronize(void *stream) { return 0; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
Result cuEventCreate(void **event, unsigned flags) { *event = ""; return 0; }
Result cuEventRecord(void *event, void *stream) { return 0; }
Result cuEventSynchronize(void *event) { return 0; }
Result cuEventDestroy_v2(void *event) { return 0; }

Result cuMemAllocAsync(Pointer *at, size_t bytes, void *stream) {
    *at = (Pointer)calloc(bytes ? bytes : 1, 1);
    return *at ? 0 : 2;
}
Result cuMemFreeAsync(Pointer at, void *stream) { free((void *)at); return 0; }
Result cuMemAllocHost_v2(void **at, size_t bytes) {
    *at = calloc(bytes ? bytes : 1, 1);
    return *at ? 0 : 2;
}
Result cuMemFreeHost(void *at) { free(at); return 0; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return 0;
}
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return 0;
}

// CUDA_MEMCPY2D: source, destination, and a rectangle of bytes; kind 1 is host memory.
typedef struct {
    size_t x, y;
    int kind;
    const void *host;
    Pointer device;
    void *array;
    size_t pitch;
} Side;
typedef struct {
    Side from, to;
    size_t width, height;
} Rectangle;
Result cuMemcpy2DAsync_v2(const Rectangle *r, void *stream) {
    const char *from = r->from.kind == 1 ? r->from.host : (const char *)r->from.device;
    char *to = r->to.kind == 1 ? (char *)r->to.host : (char *)r->to.device;
    for (size_t row = 0; row < r->height; row++)
        memcpy(to + row * r->to.pitch, from + row * r->from.pitch, r->width);
    return 0;
}

Result cuModuleLoadData(void **module, const void *image) { *module = ""; return 0; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    if (getenv("STAND_IN_LOG")) fprintf(stderr, "compiled %s\n", name);
    *function = "";
    return 0;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
Result cuTensorMapEncodeTiled(void *map, ...) { return 0; }
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments,
                      void **extra) {
    int fits = gx && gy && gz && bx && by && bz && bx * by * bz <= 1024 && gy <= 65535 &&
               gz <= 65535 && shared <= 232448;
    if (!fits) fprintf(stderr, "a launch that no GPU takes: %u %u %u\n", gx, gy, gz);
    return fits ? 0 : 1;
}
Result cuGetErrorString(int error, const char **text) { *text = "stand-in"; return 0; }
Result cuGetErrorName(int error, const char **text) { *text = "stand-in"; return 0; }
