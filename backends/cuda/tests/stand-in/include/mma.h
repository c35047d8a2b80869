// Matrices that a warp multiplies together (nvcuda::wmma): each thread holds some of the numbers.
//
// Which numbers a thread holds is not said by CUDA, and is another choice here. Loading and
// storing wait for the whole warp, and what is stored can be read by all of it without a barrier:
// CUDA promises only the former, CubeCL's kernels count on the latter. Products and sums of floats are in `float`, which tensor cores round at times otherwise.
#pragma once

#include "stand_in_half.h"

namespace stand_in {
// `mma.m16n8k16`: which numbers a thread holds is said by NVIDIA's "PTX ISA". With `group` = lane / 4
// and `quad` = lane % 4, of A rows `group` and `group` + 8 at columns 2 `quad`, 2 `quad` + 1 and
// those eight on; of B the same along the sum at column `group`; of C and D rows `group` and
// `group` + 8 at columns 2 `quad` and 2 `quad` + 1.
struct Registers {
    unsigned a[4], b[2];
};
inline float half_of(unsigned pair, unsigned k) { return from_bf16(k ? pair >> 16 : pair & 0xffff); }
inline void multiply_bf16(const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4],
                          float *const (&d)[4]) {
    static_assert(32 * sizeof(Registers) <= STAND_IN_ROOM, "room for a warp's registers");
    Registers *all = static_cast<Registers *>(stand_in_room());
    Registers &mine = all[stand_in_here.lane];
    for (unsigned k = 0; k < 4; k++) mine.a[k] = a[k];
    for (unsigned k = 0; k < 2; k++) mine.b[k] = b[k];
    stand_in_meet(__LINE__);
    unsigned group = stand_in_here.lane / 4, quad = stand_in_here.lane % 4;
    for (unsigned e = 0; e < 4; e++) {
        unsigned below = e / 2, column = 2 * quad + e % 2;
        float sum = c[e];
        for (unsigned k = 0; k < 16; k++) {
            const Registers &row = all[group * 4 + k % 8 / 2], &other = all[column * 4 + k % 8 / 2];
            sum += half_of(row.a[below + k / 8 * 2], k % 2) * half_of(other.b[k / 8], k % 2);
        }
        *d[e] = sum;
    }
}
} // namespace stand_in

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32 {};
} // namespace precision

// To 10 bits behind the point, those in the middle away from zero.
inline float __float_to_tf32(float x) {
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & ~0x1fffu;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

// The type that numbers are held in, and the one that they are multiplied in.
template <class T> struct Number { using held = T; using wide = float; };
template <> struct Number<precision::tf32> { using held = float; using wide = float; };
template <> struct Number<signed char> { using held = signed char; using wide = int; };
template <> struct Number<unsigned char> { using held = unsigned char; using wide = int; };
template <> struct Number<int> { using held = int; using wide = int; };
template <class T> typename Number<T>::wide widen(typename Number<T>::held x) { return x; }
template <> inline float widen<precision::tf32>(float x) {
    // The bits that a tensor core does not look at.
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    bits &= ~0x1fffu;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

template <class Use, int M, int N, int K> struct Shape;
template <int M, int N, int K> struct Shape<matrix_a, M, N, K> { enum { rows = M, columns = K }; };
template <int M, int N, int K> struct Shape<matrix_b, M, N, K> { enum { rows = K, columns = N }; };
template <int M, int N, int K> struct Shape<accumulator, M, N, K> {
    enum { rows = M, columns = N };
};

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    enum { rows = Shape<Use, M, N, K>::rows, columns = Shape<Use, M, N, K>::columns };
    enum { num_elements = rows * columns / 32 };
    typename Number<T>::held x[num_elements];
    // Where in the matrix, row by row, number `k` of this thread stands.
    static unsigned place(unsigned k) { return stand_in_here.lane + 32 * k; }
};

template <class F, class V> void fill_fragment(F &f, V value) {
    for (auto &x : f.x) x = value;
}

template <class F> unsigned offset(unsigned k, unsigned stride, bool by_row) {
    unsigned row = F::place(k) / F::columns, column = F::place(k) % F::columns;
    return by_row ? row * stride + column : column * stride + row;
}
template <class F, class T> void load(F &f, const T *from, unsigned stride, bool by_row, int line) {
    stand_in_meet(line);
    for (unsigned k = 0; k < F::num_elements; k++) f.x[k] = from[offset<F>(k, stride, by_row)];
}
template <class Use, int M, int N, int K, class T, class V>
void load(int line, fragment<Use, M, N, K, T, row_major> &f, const V *from, unsigned stride) {
    load(f, from, stride, true, line);
}
template <class Use, int M, int N, int K, class T, class V>
void load(int line, fragment<Use, M, N, K, T, col_major> &f, const V *from, unsigned stride) {
    load(f, from, stride, false, line);
}
template <int M, int N, int K, class T, class V>
void load(int line, fragment<accumulator, M, N, K, T> &f, const V *from, unsigned stride,
          layout_t layout) {
    load(f, from, stride, layout == mem_row_major, line);
}
#define load_matrix_sync(...) load(__LINE__, __VA_ARGS__)

template <class F, class V>
void store(V *to, const F &f, unsigned stride, layout_t layout, int line) {
    stand_in_meet(line);
    for (unsigned k = 0; k < F::num_elements; k++)
        to[offset<F>(k, stride, layout == mem_row_major)] = f.x[k];
    stand_in_meet(line);
}
#define store_matrix_sync(to, f, stride, layout) store(to, f, stride, layout, __LINE__)

template <int M, int N, int K, class A, class LA, class B, class LB, class C, class D>
void multiply(fragment<accumulator, M, N, K, D> &d, const fragment<matrix_a, M, N, K, A, LA> &a,
              const fragment<matrix_b, M, N, K, B, LB> &b,
              const fragment<accumulator, M, N, K, C> &c, int line) {
    using Wide = typename Number<A>::wide;
    static_assert(sizeof(Wide) * (M + N) * K <= STAND_IN_ROOM, "room for both matrices");
    // A row by row, B column by column, so that what is summed over stands side by side.
    Wide *rows = static_cast<Wide *>(stand_in_room()), *columns = rows + M * K;
    for (unsigned k = 0; k < a.num_elements; k++) rows[a.place(k)] = widen<A>(a.x[k]);
    for (unsigned k = 0; k < b.num_elements; k++)
        columns[b.place(k) % N * K + b.place(k) / N] = widen<B>(b.x[k]);
    stand_in_meet(line);
    for (unsigned e = 0; e < c.num_elements; e++) {
        const Wide *row = rows + c.place(e) / N * K, *column = columns + c.place(e) % N * K;
        Wide sum = c.x[e];
        for (unsigned k = 0; k < K; k++) sum += row[k] * column[k];
        d.x[e] = sum;
    }
}
#define mma_sync(d, a, b, c) multiply(d, a, b, c, __LINE__)

} // namespace wmma
} // namespace nvcuda
