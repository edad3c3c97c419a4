// Products of matrices that lie in a core's cache, and memory for them.
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

// Where the rows of a matrix begin: anywhere, or a fixed number of values apart.
using Rows = std::vector<long>;
struct Even {
    long count, apart;
    long operator[](long i) const { return i * apart; }
    long size() const { return count; }
    operator Rows() const {
        Rows rows(count);
        for (long i = 0; i < count; i++) rows[i] = i * apart;
        return rows;
    }
};

// A matrix whose row i begins at at[rows[i]].
template <class R, class Where> struct Matrix {
    R* at;
    const Where& rows;
};

// As many sums as registers hold: 24 of 32, or 12 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int SUMS = 24, WIDEST = 4;
#else
constexpr int SUMS = 12, WIDEST = 2;
#endif
template <int vectors> constexpr int TOGETHER = std::min(SUMS / vectors, 16);

// Rows i, i + 1, ... and columns from `column` on of the product below.
template <int rows, int vectors, class R, class Where>
inline void corner(long i, long column, const Matrix<const R, Rows>& a, long step, const Matrix<const R, Where>& b, const Matrix<R, Rows>& c,
                   bool add) {
    using V = typename Lane<R>::V;
    const R* left[rows];
    for (int r = 0; r < rows; r++) left[r] = a.at + a.rows[i + r];
    V sum[rows][vectors] = {};
    const long inner = b.rows.size();
    for (long k = 0; k < inner; k++) {
        const R* right = b.at + b.rows[k] + column;
        V line[vectors];
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) line[e] = get(right + e * Lane<R>::size, Full{});
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const R value = left[r][k * step];
#pragma GCC unroll 4
            for (int e = 0; e < vectors; e++) sum[r][e] += value * line[e];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) {
            R* to = c.at + c.rows[i + r] + column + e * Lane<R>::size;
            put(to, add ? get(to, Full{}) + sum[r][e] : sum[r][e], Full{});
        }
}

template <int vectors, class R, class Where>
inline void strip(long column, const Matrix<const R, Rows>& a, long step, const Matrix<const R, Where>& b, const Matrix<R, Rows>& c, bool add) {
    const long rows = c.rows.size();
    constexpr int together = TOGETHER<vectors>;
    long i = 0;
    for (; i + together <= rows; i += together) corner<together, vectors>(i, column, a, step, b, c, add);
    for (; i + 3 <= rows; i += 3) corner<3, vectors>(i, column, a, step, b, c, add);
    for (; i < rows; i++) corner<1, vectors>(i, column, a, step, b, c, add);
}

// c = a b, or with `add` c + a b. Element k of a row of a lies `step` values after element k - 1; all columns of b and c
// are `columns` neighbouring values, whole vectors.
template <class R, class Where>
void multiply(const Matrix<const R, Rows>& a, long step, const Matrix<const R, Where>& b, long columns,
              const Matrix<R, Rows>& c, bool add) {
    constexpr long size = Lane<R>::size;
    long at = 0;
    for (; at + WIDEST * size <= columns; at += WIDEST * size) strip<WIDEST>(at, a, step, b, c, add);
    if constexpr (WIDEST > 2)
        for (; at + 2 * size <= columns; at += 2 * size) strip<2>(at, a, step, b, c, add);
    if constexpr (WIDEST > 1)
        for (; at < columns; at += size) strip<1>(at, a, step, b, c, add);
}

// to [columns, rows] from [rows, columns]; rows are whole vectors.
template <class R> void transpose(const R* from, long rows, long columns, R* to) {
    constexpr long size = Lane<R>::size;
    for (long i = 0; i < rows; i += size)
        for (long j = 0; j < columns; j += size) {
            const long wide = std::min(size, columns - j);
            R square[size][size];
            for (long k = 0; k < size; k++) std::copy(from + (i + k) * columns + j, from + (i + k) * columns + j + wide, square[k]);
            for (long c = 0; c < wide; c++) {
                typename Lane<R>::V line;
                for (long k = 0; k < size; k++) line[k] = square[k][c];
                put(to + (j + c) * rows + i, line, Full{});
            }
        }
}

}  // namespace
