// Numbers of 16 bits, which are computed with in 32 and rounded to nearest, to even ones in the
// middle, as CUDA's are.
#pragma once

#include "cuda_runtime.h"

namespace stand_in {
inline unsigned short to_bf16(float x) {
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff; // as CUDA does with what is no number
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float from_bf16(unsigned short half) {
    unsigned bits = (unsigned)half << 16;
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
inline unsigned short to_fp16(float x) {
    _Float16 half = x;
    unsigned short bits;
    __builtin_memcpy(&bits, &half, 2);
    return bits;
}
inline float from_fp16(unsigned short bits) {
    _Float16 half;
    __builtin_memcpy(&half, &bits, 2);
    return half;
}

template <class Format> struct __align__(2) Half {
    unsigned short bits;
    Half() = default;
    template <class T> Half(T x) : bits(Format::round(static_cast<float>(x))) {}
    operator float() const { return Format::widen(bits); }
    Half operator-() const { return Half(-float(*this)); }
    Half &operator+=(Half x) { return *this = Half(float(*this) + float(x)); }
    Half &operator-=(Half x) { return *this = Half(float(*this) - float(x)); }
    Half &operator*=(Half x) { return *this = Half(float(*this) * float(x)); }
    Half &operator/=(Half x) { return *this = Half(float(*this) / float(x)); }
};
// Two of them.
template <class Format> struct __align__(4) Halves {
    Half<Format> x, y;
    Halves() = default;
    Halves(Half<Format> x, Half<Format> y) : x(x), y(y) {}
    explicit Halves(Half<Format> both) : x(both), y(both) {}
};

#define STAND_IN_OPERATOR(sign)                                                                    \
    template <class F> Half<F> operator sign(Half<F> a, Half<F> b) {                               \
        return Half<F>(float(a) sign float(b));                                                    \
    }                                                                                              \
    template <class F> Halves<F> operator sign(Halves<F> a, Halves<F> b) {                         \
        return {a.x sign b.x, a.y sign b.y};                                                       \
    }
STAND_IN_OPERATOR(+)
STAND_IN_OPERATOR(-)
STAND_IN_OPERATOR(*)
STAND_IN_OPERATOR(/)
#undef STAND_IN_OPERATOR

#define STAND_IN_FUNCTION(name)                                                                    \
    template <class F> Half<F> h##name(Half<F> a) { return Half<F>(::name(float(a))); }              \
    template <class F> Halves<F> h2##name(Halves<F> a) { return {h##name(a.x), h##name(a.y)}; }
STAND_IN_FUNCTION(exp)
STAND_IN_FUNCTION(log)
STAND_IN_FUNCTION(sin)
STAND_IN_FUNCTION(cos)
STAND_IN_FUNCTION(sqrt)
STAND_IN_FUNCTION(rsqrt)
STAND_IN_FUNCTION(ceil)
STAND_IN_FUNCTION(floor)
STAND_IN_FUNCTION(trunc)
STAND_IN_FUNCTION(rint)
#undef STAND_IN_FUNCTION

template <class F> Half<F> __hmax(Half<F> a, Half<F> b) { return ::max(float(a), float(b)); }
template <class F> Half<F> __hmin(Half<F> a, Half<F> b) { return ::min(float(a), float(b)); }
template <class F> Halves<F> __hmax2(Halves<F> a, Halves<F> b) {
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};
}
template <class F> Halves<F> __hmin2(Halves<F> a, Halves<F> b) {
    return {__hmin(a.x, b.x), __hmin(a.y, b.y)};
}
template <class F> bool __hisnan(Half<F> a) { return ::isnan(float(a)); }
template <class F> bool __hisinf(Half<F> a) { return ::isinf(float(a)); }
// Rounded twice, which differs from CUDA's by a bit at times.
template <class F> Half<F> fma(Half<F> a, Half<F> b, Half<F> c) {
    return Half<F>(::fma(float(a), float(b), float(c)));
}
template <class F> Halves<F> fma(Halves<F> a, Halves<F> b, Halves<F> c) {
    return {fma(a.x, b.x, c.x), fma(a.y, b.y, c.y)};
}

struct Bf16 {
    static unsigned short round(float x) { return to_bf16(x); }
    static float widen(unsigned short bits) { return from_bf16(bits); }
};
struct Fp16 {
    static unsigned short round(float x) { return to_fp16(x); }
    static float widen(unsigned short bits) { return from_fp16(bits); }
};
} // namespace stand_in

using stand_in::__hisinf;
using stand_in::__hisnan;
using stand_in::__hmax;
using stand_in::__hmax2;
using stand_in::__hmin;
using stand_in::__hmin2;
using __nv_bfloat16 = stand_in::Half<stand_in::Bf16>;
using __nv_bfloat162 = stand_in::Halves<stand_in::Bf16>;
using __half = stand_in::Half<stand_in::Fp16>;
using __half2 = stand_in::Halves<stand_in::Fp16>;
