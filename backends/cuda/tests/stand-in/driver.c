// A stand-in for NVIDIA's driver where there is no GPU: it has one device, and keeps its memory in
// the processor's. Kernels that the stand-in for NVRTC compiled (nvrtc.c) it runs on the
// processors (execute.c), and memory that they write to beside their own ends the run as a GPU's
// fault would. With CUDA's real run-time compiler none is run: it compiles every kernel, each
// launch is looked at, and what comes out is nonsense. STAND_IN_LATE (environment) has all work of
// a stream done as late as CUDA allows, so that a wait that is missing shows (stream.c).
//
//     build.sh DIR
//     LD_LIBRARY_PATH=DIR CUDA_PATH=DIR XDG_CACHE_HOME=DIR/kept astropt ... --backend cuda
//
// Functions as in NVIDIA's "CUDA Driver API"; only those that are called.

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "execute.h"
#include "image.h"
#include "memory.h"
#include "stream.h"

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
Result cuDriverGetVersion(int *version) { *version = 12090; return 0; } // the newest CUDA 12
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int index) { *device = index; return 0; }
Result cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, size, "stand-in for a GPU");
    return 0;
}
Result cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 0, 16); return 0; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = device_memory(); return 0; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = 0;
    for (size_t k = 0; k < sizeof ATTRIBUTES / sizeof *ATTRIBUTES; k++)
        if (ATTRIBUTES[k][0] == attribute) *value = ATTRIBUTES[k][1];
    return 0;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = ""; return 0; }
Result cuCtxSetCurrent(void *context) { return 0; }

// CUDA_MEMCPY2D: source, destination, and a rectangle of bytes.
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
enum { HOST = 1, DEVICE = 2 }; // CUmemorytype

// Rows of bytes, `staged` where they are not read from where they were when copied.
struct Copy {
    struct Work work;
    const char *from;
    char *to;
    size_t from_pitch, to_pitch, width, height;
    char staged[];
};

static Result run_copy(const struct Work *work) {
    const struct Copy *copy = (const struct Copy *)work;
    for (size_t row = 0; row < copy->height; row++)
        memcpy(copy->to + row * copy->to_pitch, copy->from + row * copy->from_pitch, copy->width);
    return 0;
}

// The host's memory is read and written when the copy is done if it is pinned. Else CUDA has read
// it, or written it, before the call returns.
Result cuMemcpy2DAsync_v2(const Rectangle *r, struct Stream *stream) {
    int up = r->from.kind == HOST, down = r->to.kind == HOST;
    const Side *side = down ? &r->to : &r->from;
    size_t bytes = r->height ? (r->height - 1) * side->pitch + r->width : 0;
    int pinned = (up || down) && is_pinned(side->host, bytes);
    struct Copy *copy = malloc(sizeof *copy + (up && !pinned ? r->width * r->height : 0));
    if (!copy) return OUT_OF_MEMORY;
    *copy = (struct Copy){
        .work = {.run = run_copy, .host = pinned ? side->host : NULL, .bytes = bytes},
        .from = up ? r->from.host : (const char *)r->from.device,
        .to = down ? (char *)r->to.host : (char *)r->to.device,
        .from_pitch = r->from.pitch,
        .to_pitch = r->to.pitch,
        .width = r->width,
        .height = r->height,
    };
    if (up && !pinned) {
        for (size_t row = 0; row < r->height; row++)
            memcpy(copy->staged + row * r->width, copy->from + row * r->from.pitch, r->width);
        copy->from = copy->staged;
        copy->from_pitch = r->width;
    }
    Result answer = append(stream, &copy->work);
    return down && !pinned && !answer ? cuStreamSynchronize(stream) : answer;
}
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, struct Stream *stream) {
    Rectangle all = {{.kind = HOST, .host = from}, {.kind = DEVICE, .device = to}, bytes, 1};
    return cuMemcpy2DAsync_v2(&all, stream);
}
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, struct Stream *stream) {
    Rectangle all = {{.kind = DEVICE, .device = from}, {.kind = HOST, .host = to}, bytes, 1};
    return cuMemcpy2DAsync_v2(&all, stream);
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
    kernel->name = strdup(name);
    if (module) {
        char symbol[512];
        snprintf(symbol, sizeof symbol, CALL "%s", name);
        kernel->call = (void (*)(void **))dlsym(module, symbol);
        snprintf(symbol, sizeof symbol, SIZES "%s", name);
        kernel->sizes = dlsym(module, symbol);
    }
    if (getenv("STAND_IN_LOG")) fprintf(stderr, "loaded %s\n", name);
    *function = kernel;
    return module && !(kernel->call && kernel->sizes) ? NOT_FOUND : 0;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { return 0; }
Result cuTensorMapEncodeTiled(void *map, ...) { return 0; }

// A launch, with its arguments as they were at the call.
struct Launch {
    struct Work work;
    const struct Kernel *kernel;
    struct stand_in_index grid, block;
    unsigned shared;
    void *arguments[];
};

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; } // as CUtensorMap is

static struct Launch *new_launch(const struct Kernel *kernel, void **arguments) {
    size_t count = 0, bytes = 0;
    while (kernel->sizes[count]) bytes += aligned(kernel->sizes[count++]);
    size_t head = aligned(sizeof(struct Launch) + count * sizeof *arguments);
    struct Launch *launch = aligned_alloc(64, head + bytes);
    char *at = (char *)launch + head;
    for (size_t k = 0; launch && k < count; k++) {
        launch->arguments[k] = memcpy(at, arguments[k], kernel->sizes[k]);
        at += aligned(kernel->sizes[k]);
    }
    return launch;
}

static Result run_launch(const struct Work *work) {
    const struct Launch *launch = (const struct Launch *)work;
    int whole = run_kernel(launch->kernel, launch->grid, launch->block, launch->shared,
                           (void **)launch->arguments);
    // Both are looked at.
    whole &= memory_is_whole(launch->kernel->name);
    return whole ? 0 : FAILED;
}

Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, struct Stream *stream, void **arguments,
                      void **extra) {
    const struct Kernel *kernel = function;
    int fits = gx && gy && gz && bx && by && bz && bx * by * bz <= 1024 && gy <= 65535 &&
               gz <= 65535 && shared <= 232448;
    if (!fits) fprintf(stderr, "a launch that no GPU takes: %u %u %u\n", gx, gy, gz);
    if (!fits) return INVALID;
    if (!kernel->call) return 0;
    struct Launch *launch = new_launch(kernel, arguments);
    if (!launch) return OUT_OF_MEMORY;
    launch->work = (struct Work){run_launch};
    launch->kernel = kernel;
    launch->grid = (struct stand_in_index){gx, gy, gz};
    launch->block = (struct stand_in_index){bx, by, bz};
    launch->shared = shared;
    return append(stream, &launch->work);
}
Result cuGetErrorString(int error, const char **text) { *text = "stand-in"; return 0; }
Result cuGetErrorName(int error, const char **text) { *text = "stand-in"; return 0; }
