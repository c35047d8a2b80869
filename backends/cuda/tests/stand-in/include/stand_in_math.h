// CUDA's functions of numbers.
#pragma once

#define STAND_IN_UNARY(name)                                                                       \
    inline float name(float x) { return __builtin_##name##f(x); }                                  \
    inline double name(double x) { return __builtin_##name(x); }
STAND_IN_UNARY(exp)
STAND_IN_UNARY(log)
STAND_IN_UNARY(log1p)
STAND_IN_UNARY(sin)
STAND_IN_UNARY(cos)
STAND_IN_UNARY(tan)
STAND_IN_UNARY(sinh)
STAND_IN_UNARY(cosh)
STAND_IN_UNARY(tanh)
STAND_IN_UNARY(asin)
STAND_IN_UNARY(acos)
STAND_IN_UNARY(atan)
STAND_IN_UNARY(asinh)
STAND_IN_UNARY(acosh)
STAND_IN_UNARY(atanh)
STAND_IN_UNARY(erf)
STAND_IN_UNARY(sqrt)
STAND_IN_UNARY(ceil)
STAND_IN_UNARY(floor)
STAND_IN_UNARY(trunc)
STAND_IN_UNARY(rint)
#undef STAND_IN_UNARY

inline float rsqrt(float x) { return 1 / __builtin_sqrtf(x); }
inline double rsqrt(double x) { return 1 / __builtin_sqrt(x); }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float powf(float x, float y) { return __builtin_powf(x, y); }
inline double pow(double x, double y) { return __builtin_pow(x, y); }
inline float hypotf(float x, float y) { return __builtin_hypotf(x, y); }
inline float atan2(float y, float x) { return __builtin_atan2f(y, x); }
inline float fmod(float x, float y) { return __builtin_fmodf(x, y); }
inline float fmodf(float x, float y) { return __builtin_fmodf(x, y); }
inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }

// Those that are quick on a GPU, and exact here.
inline float __expf(float x) { return exp(x); }
inline float __logf(float x) { return log(x); }
inline float __sinf(float x) { return sin(x); }
inline float __cosf(float x) { return cos(x); }
inline float __tanhf(float x) { return tanh(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return sqrt(x); }
inline float __frsqrt_rn(float x) { return rsqrt(x); }
inline float __frcp_rn(float x) { return 1 / x; }

// As in C, where one is no number, the other.
inline float min(float a, float b) { return __builtin_fminf(a, b); }
inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
inline double min(double a, double b) { return __builtin_fmin(a, b); }
inline double max(double a, double b) { return __builtin_fmax(a, b); }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
// CUDA's of mixed signs have none.
inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }

inline float abs(float x) { return __builtin_fabsf(x); }
inline double abs(double x) { return __builtin_fabs(x); }
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long abs(long long x) { return x < 0 ? -x : x; }

inline int __mulhi(int a, int b) { return (long long)a * b >> 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline long long __mul64hi(long long a, long long b) { return (__int128)a * b >> 64; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }

// Atomics: what stood there before, and what `change` makes of it in its place.
namespace stand_in {
template <int> struct Bits;
template <> struct Bits<2> { using type = unsigned short; };
template <> struct Bits<4> { using type = unsigned; };
template <> struct Bits<8> { using type = unsigned long long; };
template <class T, class F> T exchange(T *at, F change) {
    using U = typename Bits<sizeof(T)>::type;
    U *bits = reinterpret_cast<U *>(at);
    U before = __atomic_load_n(bits, __ATOMIC_RELAXED), after;
    T old;
    do {
        __builtin_memcpy(&old, &before, sizeof old);
        T next = change(old);
        __builtin_memcpy(&after, &next, sizeof after);
    } while (!__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return old;
}
template <class T> struct Same { using type = T; };
} // namespace stand_in
#define STAND_IN_ATOMIC(name, result)                                                              \
    template <class T> T name(T *at, typename stand_in::Same<T>::type x) {                         \
        return stand_in::exchange(at, [&](T old) -> T { return result; });                         \
    }
STAND_IN_ATOMIC(atomicAdd, old + x)
STAND_IN_ATOMIC(atomicSub, old - x)
STAND_IN_ATOMIC(atomicMin, min(old, x))
STAND_IN_ATOMIC(atomicMax, max(old, x))
STAND_IN_ATOMIC(atomicAnd, old & x)
STAND_IN_ATOMIC(atomicOr, old | x)
STAND_IN_ATOMIC(atomicXor, old ^ x)
STAND_IN_ATOMIC(atomicExch, x)
#undef STAND_IN_ATOMIC
template <class T>
T atomicCAS(T *at, typename stand_in::Same<T>::type wanted, typename stand_in::Same<T>::type x) {
    return stand_in::exchange(at, [&](T old) -> T { return old == wanted ? x : old; });
}
