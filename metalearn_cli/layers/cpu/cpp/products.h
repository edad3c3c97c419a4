// Products of small matrices that lie in a core's cache, and memory for them.
#pragma once
#include "vectors.h"

namespace {

// `values` numbers that begin at a line of the cache. A thread keeps them from one call to the next; each `which` has
// its own.
template <int which, class R> R* room(long values) {
    static thread_local std::vector<R> kept;
    constexpr long line = 64 / sizeof(R);
    if ((long)kept.size() < values + line) kept.resize(values + line);
    return (R*)(((uintptr_t)kept.data() + 63) / 64 * 64);
}

// A matrix of `rows` rows; its element (i, k) is at[i * row + k * step].
template <class R> struct Strided {
    const R* at;
    long rows, row, step;
    Strided below(long i) const { return {at + i * row, rows - i, row, step}; }
};

// As many sums as registers hold: with AVX-512 24 of 32 registers, elsewhere a vector is two or four registers.
#ifdef __AVX512F__
template <int vectors> constexpr int ROWS_OF = vectors == 4 ? 6 : vectors == 2 ? 12 : 16;
constexpr int WIDEST = 4;
#else
template <int vectors> constexpr int ROWS_OF = 6;
constexpr int WIDEST = 1;
#endif

// c (+)= a b for the first `rows` rows of a, b [inner, columns] and the first `vectors` vectors of columns.
template <int rows, int vectors, class R>
inline void corner(const Strided<R>& a, const R* b, long inner, long columns, R* c, bool add) {
    using V = typename Lane<R>::V;
    V sum[rows][vectors] = {};
    for (long k = 0; k < inner; k++) {
        V line[vectors];
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) line[e] = get(b + k * columns + e * Lane<R>::size, Full{});
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const R value = a.at[i * a.row + k * a.step];
#pragma GCC unroll 4
            for (int e = 0; e < vectors; e++) sum[i][e] += value * line[e];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) {
            R* to = c + i * columns + e * Lane<R>::size;
            put(to, add ? get(to, Full{}) + sum[i][e] : sum[i][e], Full{});
        }
}

template <int vectors, class R>
inline void strip(const Strided<R>& a, const R* b, long inner, long columns, R* c, bool add) {
    constexpr int together = ROWS_OF<vectors>;
    long i = 0;
    for (; i + together <= a.rows; i += together)
        corner<together, vectors>(a.below(i), b, inner, columns, c + i * columns, add);
    for (; i + 3 <= a.rows; i += 3) corner<3, vectors>(a.below(i), b, inner, columns, c + i * columns, add);
    for (; i < a.rows; i++) corner<1, vectors>(a.below(i), b, inner, columns, c + i * columns, add);
}

// c [rows, columns] = a [rows, inner] b [inner, columns], or with `add` c plus that; columns are whole vectors.
template <class R> void matrix_product(const Strided<R>& a, const R* b, long inner, long columns, R* c, bool add) {
    constexpr long size = Lane<R>::size;
    long at = 0;
    for (; at + WIDEST * size <= columns; at += WIDEST * size) strip<WIDEST>(a, b + at, inner, columns, c + at, add);
    if constexpr (WIDEST > 2)
        for (; at + 2 * size <= columns; at += 2 * size) strip<2>(a, b + at, inner, columns, c + at, add);
    if constexpr (WIDEST > 1)
        for (; at < columns; at += size) strip<1>(a, b + at, inner, columns, c + at, add);
}

// to [columns, rows] from [rows, columns]; both are whole vectors.
template <class R> void transpose(const R* from, long rows, long columns, R* to) {
    constexpr long size = Lane<R>::size;
    for (long i = 0; i < rows; i += size)
        for (long j = 0; j < columns; j += size) {
            R square[size][size];
            for (long k = 0; k < size; k++) put(square[k], get(from + (i + k) * columns + j, Full{}), Full{});
            for (long c = 0; c < size; c++) {
                typename Lane<R>::V line;
                for (long k = 0; k < size; k++) line[k] = square[k][c];
                put(to + (j + c) * rows + i, line, Full{});
            }
        }
}

}  // namespace
