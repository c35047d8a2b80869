// That the stand-ins compute what CUDA does, and see what a kernel must not do: faults NAME
// compiles the kernel of that name here and launches it, and fails where it is not as expected.
// build.sh runs it for each; without a name it lists them.

#include <cmath>
#include <cstdio>
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
int cuMemAllocAsync(unsigned long long *, size_t, void *);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   void *, void **, void **);
}

enum { FAILED = 719, THREADS = 64, BLOCKS = 4, NUMBERS = THREADS * BLOCKS };

// A kernel, what its launch answers, and whether what it wrote is right.
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

static int run(const std::string &name, const Case &one) {
    std::string source = "#include <cuda_runtime.h>\n#include <cuda_bf16.h>\n#include <mma.h>\n"
                         "extern \"C\" __global__ void __launch_bounds__(64)kernel (float* out) {\n"
                         "extern __shared__ __align__(16) unsigned char dynamic_shared_mem[];\n"
                         "float *shared = reinterpret_cast<float *>(&dynamic_shared_mem[0]);\n"
                         "const unsigned t = threadIdx.x, at = blockIdx.x * blockDim.x + t;\n" +
                         std::string(one.body) + "\n}";
    Program *program;
    std::vector<char> text(1 << 20);
    nvrtcCreateProgram(&program, source.c_str(), nullptr, 0, nullptr, nullptr);
    if (int answer = nvrtcCompileProgram(program, 0, nullptr)) {
        nvrtcGetProgramLog(program, text.data());
        return refuse(text.data(), answer);
    }
    nvrtcGetPTX(program, text.data());
    void *module, *function;
    if (int answer = cuModuleLoadData(&module, text.data())) return refuse("the module", answer);
    if (int answer = cuModuleGetFunction(&function, module, "kernel"))
        return refuse("the kernel", answer);
    unsigned long long memory;
    cuMemAllocAsync(&memory, NUMBERS * sizeof(float), nullptr);
    void *arguments[] = {&memory};
    int answer = cuLaunchKernel(function, BLOCKS, 1, 1, THREADS, 1, 1, 4096, nullptr, arguments,
                                nullptr);
    if (answer != one.answer) return refuse(name.c_str(), answer);
    for (unsigned k = 0; k < NUMBERS; k++) {
        float x = reinterpret_cast<float *>(memory)[k];
        if (one.right(k, x)) continue;
        fprintf(stderr, "%s: number %u is %g\n", name.c_str(), k, x);
        return 1;
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count < 2) {
        for (auto &one : CASES) puts(one.first.c_str());
        return 0;
    }
    auto one = CASES.find(arguments[1]);
    return one == CASES.end() ? 1 : run(one->first, one->second);
}
