// A whole first block, whose inputs need no gradient: convolution with a kernel that has the norm in it, activation and
// max-pool (layers/cpu/first_block.py). Its patches are read from the pictures where they are needed, and of its
// outputs only those are kept that the pool lets through.
#pragma once
#include "patches.h"

namespace {

// Pictures that have their margin already, [n, height, width, c], and at least 64 bytes after them that may be read;
// the kernel moves over them to n x h x w places, of which p x p become one. A kernel is [values + 1, o], its last row
// a constant.
struct First {
    Window s;
    long p;
    std::vector<long> offsets;  // from a place to the values of its patch, in the order of the kernel's rows
    First(const Window& window, long p) : s(window), p(p) {
        for (long i = 0; i < s.k; i++)
            for (long j = 0; j < s.l * s.c; j++) offsets.push_back(i * s.width * s.c + j);
    }
    long values() const { return s.values(); }
    Maps maps(long o) const { return {s.n, s.h, s.w, o, p}; }
    Parts rows() const { return maps(0).rows(); }

    // Goes over all pooled places, a few of one row at a time: work(first pooled place, count, places, room, part), with
    // the addresses of the count * p * p places, in the order of their windows, and room for PLACES rows of `wide`.
    static constexpr long PLACES = 64;
    template <class R, class Work> void by_windows(const R* x, long wide, int threads, Work work) const {
        const Maps all = maps(0);
        each(rows(), threads, [&](long first, long last, long part) {
            std::vector<R> room(PLACES * wide + Lane<R>::size);  // and a vector more, for what is written too much
            const R* places[PLACES];
            const long at_once = PLACES / (p * p);
            for (long row = first; row < last; row++)
                for (long begin = 0; begin < all.wide(); begin += at_once) {
                    const long count = std::min(at_once, all.wide() - begin), picture = row / all.high();
                    for (long j = 0; j < count; j++)
                        for (long k = 0; k < p * p; k++) {
                            const long y = (row % all.high() * p + k / p) * s.down;
                            const long across = ((begin + j) * p + k % p) * s.right;
                            places[j * p * p + k] = x + ((picture * s.height + y) * s.width + across) * s.c;
                        }
                    work(row * all.wide() + begin, count, places, room.data(), part);
                }
        });
    }
};

// Calls work(c, which, two) for the channels from c on, two vectors at a time where there are two (`two` is 2, else 1):
// a number that is read once is then used twice.
template <class R, class Work> inline void pairs(long channels, Work work) {
    long c = 0;
    for (; c + 2 * Lane<R>::size <= channels; c += 2 * Lane<R>::size) work(c, Full{}, std::integral_constant<int, 2>{});
    lanes<R>(channels - c, [&](long more, auto which) { work(c + more, which, std::integral_constant<int, 1>{}); });
}

// out [count, o]: the patches at the places times a kernel.
template <class R>
void product(const First& first, const R* const* places, long count, const R* kernel, long o, R* out) {
    using V = typename Lane<R>::V;
    constexpr long TOGETHER = 8;  // patches for which a row of the kernel is read once
    const long values = first.values();
    const long* offsets = first.offsets.data();
    pairs<R>(o, [&](long c, auto which, auto two) {
        for (long i = 0; i < count; i += TOGETHER) {
            const R* at[TOGETHER];
            V sum[TOGETHER][two];
            for (long t = 0; t < TOGETHER; t++) {
                at[t] = places[std::min(i + t, count - 1)];  // behind the end: not written below
                for (int e = 0; e < two; e++) sum[t][e] = get(kernel + values * o + c + e * Lane<R>::size, which);
            }
            for (long s = 0; s < values; s++) {
                const long offset = offsets[s];
                V row[two];
                for (int e = 0; e < two; e++) row[e] = get(kernel + s * o + c + e * Lane<R>::size, which);
                for (long t = 0; t < TOGETHER; t++)
                    for (int e = 0; e < two; e++) sum[t][e] += at[t][offset] * row[e];
            }
            for (long t = 0; t < std::min(TOGETHER, count - i); t++)
                for (int e = 0; e < two; e++) put(out + (i + t) * o + c + e * Lane<R>::size, sum[t][e], which);
        }
    });
}

// Adds the patches at the places, transposed, times columns [count, o] to sums [values + 1, o].
template <class R>
void outer(const First& first, const R* const* places, long count, const R* columns, long o, double* sums) {
    using V = typename Lane<R>::V;
    constexpr long TOGETHER = 9;  // a row of a 3 x 3 kernel over three channels, three times
    const long values = first.values();
    pairs<R>(o, [&](long c, auto which, auto two) {
        for (int e = 0; e < two; e++) {  // the last row, for the constant: sums of the columns alone
            V all = {};
            for (long i = 0; i < count; i++) all += get(columns + i * o + c + e * Lane<R>::size, which);
            add_to<R>(sums + values * o, all, c + e * Lane<R>::size, o);
        }
        for (long s = 0; s < values; s += TOGETHER) {
            long offsets[TOGETHER];
            for (long t = 0; t < TOGETHER; t++) offsets[t] = first.offsets[std::min(s + t, values - 1)];
            V sum[TOGETHER][two] = {};
            for (long i = 0; i < count; i++) {
                const R* at = places[i];
                V column[two];
                for (int e = 0; e < two; e++) column[e] = get(columns + i * o + c + e * Lane<R>::size, which);
                for (long t = 0; t < TOGETHER; t++)
                    for (int e = 0; e < two; e++) sum[t][e] += at[offsets[t]] * column[e];
            }
            for (long t = 0; t < std::min(TOGETHER, values - s); t++)
                for (int e = 0; e < two; e++) add_to<R>(sums + (s + t) * o, sum[t][e], c + e * Lane<R>::size, o);
        }
    });
}

// sums [values + 1, wide] of the products of two values of a patch over all places, with `wide` at least values and a
// multiple of a vector; the last row has the sums of the values.
template <class R> void patch_products(const Window& s, const R* x, long wide, double* sums, int threads) {
    const First first(s, 1);
    // P P^T by `outer`, whose columns are the patches themselves. Each part has sums of its own, joined in order below.
    const long size = (s.values() + 1) * wide, row = s.l * s.c, parts = first.rows().count;
    std::vector<double> found(parts * size, 0.0);
    first.by_windows(x, wide, threads, [&](long, long count, const R* const* places, R* columns, long part) {
        for (long i = 0; i < count; i++)
            for (long k = 0; k < s.k; k++)
                // Whole vectors: what is written too much is overwritten by the next row, or by zeros.
                for (long j = 0; j < row; j += Lane<R>::size)
                    put(columns + i * wide + k * row + j, get(places[i] + k * s.width * s.c + j, Full{}), Full{});
        for (long i = 0; i < count; i++)
            std::fill(columns + i * wide + s.values(), columns + (i + 1) * wide, R(0));
        outer(first, places, count, columns, wide, &found[part * size]);
    });
    std::fill(sums, sums + size, 0.0);
    for (long part = 0; part < parts; part++)
        for (long i = 0; i < size; i++) sums[i] += found[part * size + i];
}

// The pooled activation of patches times a kernel.
template <class R>
void first_forward(const First& first, const R* x, const R* kernel, long o, R slope, R* out, uint8_t* index,
                   int threads) {
    using V = typename Lane<R>::V;
    using M = typename Lane<R>::M;
    const long window = first.p * first.p;
    first.by_windows(x, o, threads, [&](long begin, long count, const R* const* places, R* convolved, long) {
        product(first, places, count * window, kernel, o, convolved);
        for (long j = 0; j < count; j++)
            lanes<R>(o, [&](long c, auto which) {
                const R* at = convolved + j * window * o + c;
                V best = get(at, which);
                M place = {};
                for (long k = 1; k < window; k++) {
                    const V other = get(at + k * o, which);
                    const M more = other > best;
                    place = more ? M{} + (int)k : place;
                    best = more ? other : best;
                }
                put(out + (begin + j) * o + c, let_through(best, best, slope), which);
                if (window > 1) put_index<R>(index + (begin + j) * o + c, place, which);
            });
    });
}

// The gradient for the kernel: the patches that maxima came from, transposed, times the gradient before the activation.
template <class R>
void first_to_kernel(const First& first, const R* x, const R* gradient, const R* out, const uint8_t* index, long o,
                     R slope, R* of_kernel, int threads) {
    using V = typename Lane<R>::V;
    using M = typename Lane<R>::M;
    const long window = first.p * first.p, size = (first.values() + 1) * o, parts = first.rows().count;
    std::vector<double> sums(parts * size, 0.0);
    first.by_windows(x, o, threads, [&](long begin, long count, const R* const* places, R* columns, long part) {
        for (long j = 0; j < count; j++)
            lanes<R>(o, [&](long c, auto which) {
                const long i = (begin + j) * o + c;
                const V g = let_through(get(gradient + i, which), get(out + i, which), slope);
                const M from = window > 1 ? get_index<R>(index + i, which) : M{};
                for (long k = 0; k < window; k++)
                    put(columns + (j * window + k) * o + c, from == (int)k ? g : V{}, which);
            });
        outer(first, places, count * window, columns, o, &sums[part * size]);
    });
    for (long i = 0; i < size; i++) {
        double sum = 0;
        for (long part = 0; part < parts; part++) sum += sums[part * size + i];
        of_kernel[i] = R(sum);
    }
}

// The adjoint of first_to_kernel: patches times a kernel, at the chosen places and behind the activation's derivative.
template <class R>
void first_let_through(const First& first, const R* x, const R* kernel, const R* out, const uint8_t* index, long o,
                       R slope, R* to, int threads) {
    using V = typename Lane<R>::V;
    using M = typename Lane<R>::M;
    const long window = first.p * first.p;
    first.by_windows(x, o, threads, [&](long begin, long count, const R* const* places, R* convolved, long) {
        product(first, places, count * window, kernel, o, convolved);
        for (long j = 0; j < count; j++)
            lanes<R>(o, [&](long c, auto which) {
                const R* at = convolved + j * window * o + c;
                const long i = (begin + j) * o + c;
                const M from = window > 1 ? get_index<R>(index + i, which) : M{};
                V here = get(at, which);
                for (long k = 1; k < window; k++) here = from == (int)k ? get(at + k * o, which) : here;
                put(to + i, let_through(here, get(out + i, which), slope), which);
            });
    });
}

}  // namespace
