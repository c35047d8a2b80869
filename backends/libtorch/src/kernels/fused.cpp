// Operations of libtorch that the `tch` crate has no wrapper for, behind a C interface.
// Those that compute return null, or a message that the caller frees with `free`.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include <dlfcn.h>

#include <c10/util/env.h>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <torch/version.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#ifdef ASTROPT_CUDA
namespace at::cuda {
int warp_size();
}
#endif

namespace {

template <typename F>
char *guarded(F &&f) {
    try {
        f();
        return nullptr;
    } catch (const std::exception &error) {
        return strdup(error.what());
    } catch (...) {
        return strdup("unknown error of libtorch");
    }
}

// While it stands, sums that libtorch knows to take in one order are taken so, and what knows of no
// such order is refused; then again as `astropt_prepare` has it.
class OneOrder {
  public:
    OneOrder()
        : on_(at::globalContext().deterministicAlgorithms()),
          warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
        at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    }
    ~OneOrder() { at::globalContext().setDeterministicAlgorithms(on_, warn_only_); }
    OneOrder(const OneOrder &) = delete;
    OneOrder &operator=(const OneOrder &) = delete;

  private:
    const bool on_, warn_only_;
};

} // namespace

extern "C" {

// Of libtorch's C interface, which stays the same from version to version.
uint64_t aoti_torch_abi_version();

// Versions of libtorch: of the headers that this was compiled with, and of the library that was
// loaded. The highest byte is the major version, the next the minor one, the third the patch.
uint64_t astropt_version_built() { return TORCH_ABI_VERSION; }
uint64_t astropt_version_loaded() { return aoti_torch_abi_version(); }

// The file that was loaded, or null where the system does not tell; not to be freed.
const char *astropt_library() {
    Dl_info info;
    const auto *inside = reinterpret_cast<const void *>(&aoti_torch_abi_version);
    return dladdr(inside, &info) ? info.dli_fname : nullptr;
}

// Gradients of layer normalisation for its input and its gain.
char *astropt_layer_norm_backward(const at::Tensor *dy, const at::Tensor *x, const at::Tensor *mean,
                                  const at::Tensor *rstd, const at::Tensor *gain, at::Tensor **dx,
                                  at::Tensor **dgain) {
    return guarded([&] {
        auto [input, weight, bias] = at::native_layer_norm_backward(
            *dy, *x, gain->sizes(), *mean, *rstd, *gain, std::nullopt, {true, true, false});
        *dx = new at::Tensor(std::move(input));
        *dgain = new at::Tensor(std::move(weight));
    });
}

// Gradients of memory-efficient attention on CUDA for queries, keys and values.
char *astropt_efficient_attention_backward(const at::Tensor *dout, const at::Tensor *const *inputs,
                                           const at::Tensor *bias, const at::Tensor *out,
                                           const at::Tensor *lse, bool causal, double scale,
                                           at::Tensor **gradients) {
    return guarded([&] {
        const OneOrder order; // where it would only be warned of, keys are summed as they come
        const at::Tensor none = at::empty({0}, at::kLong); // of the dropout that there is not
        auto [dq, dk, dv, dbias] = at::_scaled_dot_product_efficient_attention_backward(
            *dout, *inputs[0], *inputs[1], *inputs[2], bias ? *bias : at::Tensor(), *out, *lse, none,
            none, 0.0, {true, true, true, false}, causal, scale);
        gradients[0] = new at::Tensor(std::move(dq));
        gradients[1] = new at::Tensor(std::move(dk));
        gradients[2] = new at::Tensor(std::move(dv));
    });
}

struct AstroptAdamW {
    double lr, beta1, beta2, eps, weight_decay, step, grad_scale;
};

// One step of AdamW on `count` parameters in place; `lists` holds the parameters, then their
// gradients, then both moments. Gradients are overwritten.
char *astropt_adamw(at::Tensor *const *lists, size_t count, const AstroptAdamW *settings) {
    return guarded([&] {
        std::vector<at::Tensor> values, grads, moments1, moments2;
        for (size_t k = 0; k < count; ++k) {
            values.push_back(*lists[k]);
            grads.push_back(*lists[count + k]);
            moments1.push_back(*lists[2 * count + k]);
            moments2.push_back(*lists[3 * count + k]);
        }
        if (count == 0) {
            return;
        }
        const auto options = values[0].options();
        const std::vector<at::Tensor> steps(count, at::full({}, settings->step, options));
        std::optional<at::Tensor> divisor;
        if (settings->grad_scale != 1.0) {
            divisor = at::full({}, 1.0 / settings->grad_scale, options);
        }
        at::_fused_adamw_(values, grads, moments1, moments2, {}, steps, settings->lr,
                          settings->beta1, settings->beta2, settings->weight_decay, settings->eps,
                          /*amsgrad=*/false, /*maximize=*/false, divisor, std::nullopt);
    });
}

// Settings of the whole process, made once. Training frees and takes the same large buffers
// every step: glibc would map each anew and have the system clear its pages.
void astropt_prepare() {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 32 << 20); // the largest that glibc takes
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    mallopt(M_TOP_PAD, 64 << 20);
#endif
#ifdef ASTROPT_CUDA
    // Named, so that the linker keeps the library with libtorch's CUDA operations.
    volatile auto keep = &at::cuda::warp_size;
    (void)keep;
    // The same steps give the same parameters, as far as libtorch knows how; cuBLAS, by a workspace
    // of its own, or each of its products would be warned of. That costs no filling of new memory,
    // which finds reads of what was never written.
    c10::utils::set_env("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/false);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
#endif
}
}
