// That the stand-ins compute what CUDA does, and see what a kernel must not do, and what streams
// that do not wait do: faults NAME tries the case of that name, and fails where it is not as
// expected. build.sh runs it for each; without a name it lists them.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

struct Program;
extern "C" {
int nvrtcCreateProgram(Program **, const char *, const char *, int, const char **, const char **);
int nvrtcCompileProgram(Program *, int, const char **);
int nvrtcGetPTX(Program *, char *);
int nvrtcGetProgramLog(Program *, char *);
int cuModuleLoadData(void **, const void *);
int cuModuleGetFunction(void **, void *, const char *);
int cuStreamCreate(void **, unsigned);
int cuStreamSynchronize(void *);
int cuStreamDestroy_v2(void *);
int cuStreamWaitEvent(void *, void *, unsigned);
int cuEventCreate(void **, unsigned);
int cuEventRecord(void *, void *);
int cuEventSynchronize(void *);
int cuEventDestroy_v2(void *);
int cuMemAllocAsync(unsigned long long *, size_t, void *);
int cuMemFreeAsync(unsigned long long, void *);
int cuMemAllocHost_v2(void **, size_t);
int cuMemFreeHost(void *);
int cuMemcpyHtoDAsync_v2(unsigned long long, const void *, size_t, void *);
int cuMemcpyDtoHAsync_v2(void *, unsigned long long, size_t, void *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   void *, void **, void **);
}

enum { FAILED = 719, THREADS = 64, BLOCKS = 4, NUMBERS = THREADS * BLOCKS };
static const size_t BYTES = NUMBERS * sizeof(float);

// A kernel, what is answered who waits for it, and whether what it wrote is right.
struct Case {
    const char *body;
    int answer;
    std::function<bool(unsigned k, float x)> right;
};

static bool nothing(unsigned, float) { return true; }

static const std::map<std::string, Case> CASES = {
    {"barriers",
     {"shared[t] = t; __syncthreads(); out[at] = shared[63 - t];", 0,
      [](unsigned k, float x) { return x == 63 - k % THREADS; }}},
    {"shuffles",
     {"float x = t % 32; for (int by = 16; by; by /= 2) x += __shfl_xor_sync(-1, x, by);"
      "out[at] = x + 1000 * (__shfl_up_sync(-1, t, 1u) == max(t - (t % 32 != 0), 0u));",
      0, [](unsigned, float x) { return x == 1496; }}},
    {"votes",
     {"out[at] = __popc(__ballot_sync(-1, t % 3 == 0)) + 100 * __any_sync(-1, t == 40);", 0,
      [](unsigned k, float x) { return x == (k % THREADS < 32 ? 11 : 111); }}},
    // Half way between 1 and the next, and between that and the one after it.
    {"bf16",
     {"out[at] = float(__nv_bfloat16(t % 2 ? 1.01171875f : 1.00390625f));", 0,
      [](unsigned k, float x) { return x == (k % 2 ? 1.015625f : 1.0f); }}},
    {"fp16",
     {"out[at] = float(__half(1.0f / 3) * __half(t));", 0,
      [](unsigned k, float x) {
          return x == float(_Float16(float(_Float16(1.0f / 3)) * float(k % THREADS)));
      }}},
    {"atomics",
     {"if (at == 0) out[0] = 0; __syncthreads();"
      "if (blockIdx.x == 0) { atomicAdd(out, float(t)); __syncthreads(); }",
      0, [](unsigned k, float x) { return k || x == 2016; }}},
    // Row r of the first is r, column c of the second is c.
    {"matrices",
     {"using namespace nvcuda::wmma;"
      "__nv_bfloat16 *a = (__nv_bfloat16 *)shared, *b = a + 256; float *c = shared + 256;"
      "for (unsigned k = t; k < 256; k += 64) { a[k] = k / 16; b[k] = k / 16; }"
      "__syncthreads();"
      "fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> left;"
      "fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major> right;"
      "fragment<accumulator, 16, 16, 16, float> sums;"
      "nvcuda::wmma::fill_fragment(sums, 1.0f);"
      "nvcuda::wmma::load_matrix_sync(left, a, 16);"
      "nvcuda::wmma::load_matrix_sync(right, b, 16);"
      "nvcuda::wmma::mma_sync(sums, left, right, sums);"
      "if (t < 32) nvcuda::wmma::store_matrix_sync(c, sums, 16, nvcuda::wmma::mem_row_major);"
      "__syncthreads(); out[at] = c[at];",
      0, [](unsigned k, float x) { return x == 1 + 16.0f * (k / 16) * (k % 16); }}},
    {"fresh-shared-memory",
     {"out[at] = shared[t];", 0, [](unsigned, float x) { return std::isnan(x); }}},
    {"fresh-memory", {"", 0, [](unsigned, float x) { return std::isnan(x); }}},
    {"missing-barrier",
     {"shared[t] = t; out[at] = shared[63 - t];", 0,
      [](unsigned k, float x) { return k % THREADS >= 32 || std::isnan(x); }}},
    {"barrier-in-a-branch", {"if (t < 40) __syncthreads();", FAILED, nothing}},
    {"two-barriers",
     {"if (t < 40)\n__syncthreads();\nelse\n__syncthreads();", FAILED, nothing}},
    {"shuffle-in-a-branch", {"if (t < 7) __shfl_xor_sync(-1, t, 1);", FAILED, nothing}},
    {"behind-memory", {"out[at + 64] = 1;", FAILED, nothing}},
    {"before-memory", {"if (at == 0) out[-1] = 1;", FAILED, nothing}},
    {"behind-shared-memory", {"shared[1024 + t] = 1;", FAILED, nothing}},
};

static int refuse(const char *what, int answer) {
    fprintf(stderr, "%s answers %d\n", what, answer);
    return 1;
}

// Compiles a kernel of two pointers; null, and why on stderr, where that fails.
static void *compile(const char *body) {
    std::string source = "#include <cuda_runtime.h>\n#include <cuda_bf16.h>\n#include <mma.h>\n"
                         "extern \"C\" __global__ void __launch_bounds__(64)kernel "
                         "(float* out, const float* in) {\n"
                         "extern __shared__ __align__(16) unsigned char dynamic_shared_mem[];\n"
                         "float *shared = reinterpret_cast<float *>(&dynamic_shared_mem[0]);\n"
                         "const unsigned t = threadIdx.x, at = blockIdx.x * blockDim.x + t;\n" +
                         std::string(body) + "\n}";
    Program *program;
    std::vector<char> text(1 << 20);
    nvrtcCreateProgram(&program, source.c_str(), nullptr, 0, nullptr, nullptr);
    void *module, *function = nullptr;
    if (int answer = nvrtcCompileProgram(program, 0, nullptr)) {
        nvrtcGetProgramLog(program, text.data());
        refuse(text.data(), answer);
        return nullptr;
    }
    nvrtcGetPTX(program, text.data());
    if (int answer = cuModuleLoadData(&module, text.data()))
        refuse("the module", answer);
    else if (int answer = cuModuleGetFunction(&function, module, "kernel"))
        refuse("the kernel", answer), function = nullptr;
    return function;
}

static float *numbers(unsigned long long memory) { return reinterpret_cast<float *>(memory); }

static void launch(void *function, unsigned long long out, unsigned long long in, void *stream) {
    // Gone when the kernel runs late.
    void *arguments[] = {&out, &in};
    cuLaunchKernel(function, BLOCKS, 1, 1, THREADS, 1, 1, 4096, stream, arguments, nullptr);
}

static int run(const std::string &name, const Case &one) {
    void *function = compile(one.body), *stream;
    if (!function) return 1;
    cuStreamCreate(&stream, 0);
    unsigned long long memory;
    cuMemAllocAsync(&memory, BYTES, stream);
    launch(function, memory, memory, stream);
    int answer = cuStreamSynchronize(stream);
    if (answer != one.answer) return refuse(name.c_str(), answer);
    for (unsigned k = 0; k < NUMBERS; k++) {
        float x = numbers(memory)[k];
        if (one.right(k, x)) continue;
        fprintf(stderr, "%s: number %u is %g\n", name.c_str(), k, x);
        return 1;
    }
    return 0;
}

// How one stream, or the host, waits for what another has been given.
enum Wait { NOT, BY_EVENT, BY_HOST };

// Two streams, and memory that they and the host have in common: all of `in` is 1, all of `out` 0,
// all of `pinned` 2, and all of `pageable` 3.
struct Streams {
    Wait how;
    void *a, *b, *copy; // the kernel: in to out
    unsigned long long in, out;
    float *pinned;
    std::vector<float> pageable;

    explicit Streams(Wait how) : how(how), pageable(NUMBERS, 3) {
        copy = compile("out[at] = in[at];");
        cuStreamCreate(&a, 0);
        cuStreamCreate(&b, 0);
        cuMemAllocAsync(&in, BYTES, a);
        cuMemAllocAsync(&out, BYTES, a);
        std::fill_n(numbers(in), int(NUMBERS), 1);
        std::fill_n(numbers(out), int(NUMBERS), 0);
        void *host;
        cuMemAllocHost_v2(&host, BYTES);
        pinned = static_cast<float *>(host);
        std::fill_n(pinned, int(NUMBERS), 2);
    }

    // `second`, or the host without one, waits for `first`, if it is to at all.
    void wait(void *first, void *second) {
        if (how == BY_HOST) cuStreamSynchronize(first);
        if (how != BY_EVENT) return;
        void *event;
        cuEventCreate(&event, 0);
        cuEventRecord(event, first);
        second ? cuStreamWaitEvent(second, event, 0) : cuEventSynchronize(event);
        cuEventDestroy_v2(event);
    }

    // What is in memory when all is done, `first` before the other.
    float end(void *first, unsigned long long memory) {
        int answer = cuStreamSynchronize(first);
        if (!answer) answer = cuStreamSynchronize(first == a ? b : a);
        return answer ? answer : all(numbers(memory));
    }

    // The number that all are; else none.
    static float all(const float *x) {
        return std::count(x, x + NUMBERS, *x) == NUMBERS ? *x : NAN;
    }
};

// What comes of a program, with all waits or done at once, and what if a stream is late and nobody
// waits for it.
struct Order {
    float right, late;
    std::function<float(Streams &)> program;
};

static const std::map<std::string, Order> ORDERS = {
    // By a kernel on another stream, which is then too early.
    {"read-what-is-copied",
     {2, 1, [](Streams &s) {
          cuMemcpyHtoDAsync_v2(s.in, s.pinned, BYTES, s.a);
          s.wait(s.a, s.b);
          launch(s.copy, s.out, s.in, s.b);
          return s.end(s.b, s.out);
      }}},
    // And which is then too late.
    {"copy-over-what-is-read",
     {1, 2, [](Streams &s) {
          launch(s.copy, s.out, s.in, s.b);
          s.wait(s.b, s.a);
          cuMemcpyHtoDAsync_v2(s.in, s.pinned, BYTES, s.a);
          return s.end(s.a, s.out);
      }}},
    {"write-pinned-memory",
     {2, 4, [](Streams &s) {
          cuMemcpyHtoDAsync_v2(s.in, s.pinned, BYTES, s.a);
          s.wait(s.a, nullptr);
          std::fill_n(s.pinned, int(NUMBERS), 4);
          return s.end(s.a, s.in);
      }}},
    {"read-pinned-memory",
     {1, 2, [](Streams &s) {
          cuMemcpyDtoHAsync_v2(s.pinned, s.in, BYTES, s.a);
          s.wait(s.a, nullptr);
          return Streams::all(s.pinned);
      }}},
    {"free-pinned-memory",
     {2, FAILED, [](Streams &s) {
          cuMemcpyHtoDAsync_v2(s.in, s.pinned, BYTES, s.a);
          s.wait(s.a, nullptr);
          cuMemFreeHost(s.pinned);
          return s.end(s.a, s.in);
      }}},
    {"write-pageable-memory",
     {3, 3, [](Streams &s) {
          cuMemcpyHtoDAsync_v2(s.in, s.pageable.data(), BYTES, s.a);
          std::fill(s.pageable.begin(), s.pageable.end(), 4);
          return s.end(s.a, s.in);
      }}},
    {"read-pageable-memory",
     {1, 1, [](Streams &s) {
          cuMemcpyDtoHAsync_v2(s.pageable.data(), s.in, BYTES, s.a);
          return Streams::all(s.pageable.data());
      }}},
    {"free-device-memory",
     {1, 1, [](Streams &s) {
          launch(s.copy, s.out, s.in, s.a);
          cuMemFreeAsync(s.in, s.a);
          return s.end(s.a, s.out);
      }}},
    {"destroyed-stream",
     {2, 1, [](Streams &s) {
          cuMemcpyHtoDAsync_v2(s.in, s.pinned, BYTES, s.a);
          s.wait(s.a, s.b);
          cuStreamDestroy_v2(s.a);
          cuStreamSynchronize(s.b);
          return Streams::all(numbers(s.in));
      }}},
    // A stream waits for what was recorded when it was told to, and the host for what is recorded.
    {"event-recorded-again",
     {3, 2, [](Streams &s) {
          void *event;
          cuEventCreate(&event, 0);
          cuEventSynchronize(event);
          cuStreamWaitEvent(s.b, event, 0);
          cuMemcpyHtoDAsync_v2(s.in, s.pinned, BYTES, s.a);
          cuEventRecord(event, s.a);
          cuStreamWaitEvent(s.b, event, 0);
          cuMemcpyHtoDAsync_v2(s.in, s.pageable.data(), BYTES, s.a);
          cuEventRecord(event, s.a);
          if (s.how == BY_EVENT) cuStreamWaitEvent(s.b, event, 0);
          if (s.how == BY_HOST) cuEventSynchronize(event);
          launch(s.copy, s.out, s.in, s.b);
          return s.end(s.b, s.out);
      }}},
};

static int run(const std::string &name, const Order &one) {
    static const char *const WAITS[] = {"without a wait", "with an event", "with the host"};
    float late = getenv("STAND_IN_LATE") ? one.late : one.right;
    int wrong = 0;
    // Last without, which may end the use of the GPU.
    for (Wait how : {BY_EVENT, BY_HOST, NOT}) {
        Streams streams(how);
        float x = streams.copy ? one.program(streams) : NAN;
        if (x == (how == NOT ? late : one.right)) continue;
        fprintf(stderr, "%s, %s: the numbers are %g\n", name.c_str(), WAITS[how], x);
        wrong = 1;
    }
    return wrong;
}

int main(int count, char **arguments) {
    if (count < 2) {
        for (auto &one : CASES) puts(one.first.c_str());
        for (auto &one : ORDERS) puts(one.first.c_str());
        return 0;
    }
    auto one = CASES.find(arguments[1]);
    auto order = ORDERS.find(arguments[1]);
    if (one != CASES.end()) return run(one->first, one->second);
    return order == ORDERS.end() ? 1 : run(order->first, order->second);
}
