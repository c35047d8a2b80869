// A stand-in for NVIDIA's driver where there is no GPU: it has one device, and keeps its memory in
// the processor's. Kernels that the stand-in for NVRTC compiled (nvrtc.c) it runs on the
// processors (execute.c), and memory that they write to beside their own ends the run as a GPU's
// fault would. With CUDA's real run-time compiler none is run: it compiles every kernel, each
// launch is looked at, and what comes out is nonsense.
//
//     build.sh DIR
//     LD_LIBRARY_PATH=DIR CUDA_PATH=DIR XDG_CACHE_HOME=DIR/kept astropt ... --backend cuda
//
// Functions as in NVIDIA's "CUDA Driver API"; only those that CubeCL calls.

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "execute.h"
#include "image.h"
#include "memory.h"

typedef int Result; // 0: success
enum { INVALID = 1, NO_IMAGE = 200, NOT_FOUND = 500, FAILED = 719 };

// Of the first kernel that did what none may: all that follows fails too, as on a GPU.
static Result broken;

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
    snprintf(name, size, "stand-in for a GPU");
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
Result cuStreamSynchronize(void *stream) { return broken; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
Result cuEventCreate(void **event, unsigned flags) { *event = ""; return 0; }
Result cuEventRecord(void *event, void *stream) { return 0; }
Result cuEventSynchronize(void *event) { return broken; }
Result cuEventDestroy_v2(void *event) { return 0; }

Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return broken;
}
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return broken;
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
    return broken;
}

// A module is the library of an image that runs on this processor, or null for one that does not.
Result cuModuleLoadData(void **module, const void *image) {
    *module = NULL;
    if (strncmp(image, IMAGE, strlen(IMAGE))) return 0;
    *module = dlopen((const char *)image + strlen(IMAGE), RTLD_NOW | RTLD_LOCAL);
    if (*module) return 0;
    fprintf(stderr, "%s; remove what CubeCL keeps of compiled kernels\n", dlerror());
    return NO_IMAGE;
}
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    struct Kernel *kernel = calloc(1, sizeof *kernel);
    char call[512];
    snprintf(call, sizeof call, CALL "%s", name);
    kernel->name = strdup(name);
    if (module) kernel->call = (void (*)(void **))dlsym(module, call);
    if (getenv("STAND_IN_LOG")) fprintf(stderr, "loaded %s\n", name);
    *function = kernel;
    return module && !kernel->call ? NOT_FOUND : 0;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
Result cuTensorMapEncodeTiled(void *map, ...) { return 0; }

Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, void *stream, void **arguments,
                      void **extra) {
    const struct Kernel *kernel = function;
    int fits = gx && gy && gz && bx && by && bz && bx * by * bz <= 1024 && gy <= 65535 &&
               gz <= 65535 && shared <= 232448;
    if (!fits) fprintf(stderr, "a launch that no GPU takes: %u %u %u\n", gx, gy, gz);
    if (!fits) return INVALID;
    if (broken || !kernel->call) return broken;
    struct stand_in_index grid = {gx, gy, gz}, block = {bx, by, bz};
    int whole = run_kernel(kernel, grid, block, shared, arguments);
    // Both are looked at.
    whole &= memory_is_whole(kernel->name);
    if (!whole) broken = FAILED;
    return broken;
}
Result cuGetErrorString(int error, const char **text) { *text = "stand-in"; return 0; }
Result cuGetErrorName(int error, const char **text) { *text = "stand-in"; return 0; }
