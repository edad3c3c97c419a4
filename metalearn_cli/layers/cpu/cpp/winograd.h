// The convolution by a kernel of 3 x 3 in steps of one, with 4/9 of the multiplications: Winograd's minimal filtering
// F(2 x 2, 3 x 3) (Lavin & Gray 2016, section 4.1).
//
// A tile d of 4 x 4 pixels and a kernel g give 2 x 2 outputs, A^T [(G g G^T) * (B^T d B)] A, where * is by element.
// With channels that is a matrix product for each of the 16 elements, the points. It is done for some tiles at a time,
// whose values stay in the cache. A map of an odd size has tiles that reach over its edge.
//
// Maps have their channels last, c in and o out; both are whole vectors.
#pragma once
#include "patches.h"
#include "products.h"

namespace {

constexpr long POINTS = 16;
constexpr long SCRATCH = 400 << 10;  // bytes of the tiles that are worked on together (measured on a cache of 1 MB)

// Four values become four: a row of B^T times them.
template <class V> inline void of_inputs(const V (&d)[4], V (&to)[4]) {
    to[0] = d[0] - d[2], to[1] = d[1] + d[2], to[2] = d[2] - d[1], to[3] = d[1] - d[3];
}
// Three become four, by G.
template <class V> inline void of_kernel(const V& a, const V& b, const V& c, V (&to)[4]) {
    const V outer = a + c;
    to[0] = a, to[1] = (outer + b) / 2, to[2] = (outer - b) / 2, to[3] = c;
}
// Four become two, by A^T.
template <class V> inline void to_outputs(const V (&m)[4], V (&to)[2]) {
    to[0] = m[0] + m[1] + m[2], to[1] = m[1] - m[2] - m[3];
}
// The adjoints of the last two: two become four, by A, and four become three, by G^T.
template <class V> inline void of_outputs(const V& a, const V& b, V (&to)[4]) {
    to[0] = a, to[1] = a + b, to[2] = a - b, to[3] = -b;
}
template <class V> inline void to_kernel(const V (&u)[4], V (&to)[3]) {
    const V both = (u[1] + u[2]) / 2;
    to[0] = u[0] + both, to[1] = (u[1] - u[2]) / 2, to[2] = u[3] + both;
}

// The tiles of a task's maps, row by row, and the number that are worked on together.
struct Tiles {
    Window s;
    long high, wide, count, at_once;
    Tiles(const Window& s, long o, long size)
        : s(s), high((s.h + 1) / 2), wide((s.w + 1) / 2), count(s.n * high * wide) {
        at_once = std::min(count, std::max(12L, SCRATCH / (POINTS * (s.c + o) * size) / 12 * 12));
    }
    // The values of some tiles [POINTS, tiles, channels]. A few more lie between points, or their places in the cache
    // would be the same.
    long apart(long channels) const { return at_once * channels + 32; }
    long values(long channels) const { return POINTS * apart(channels); }
    // Calls work(number within the part, how many, picture, y, x of the first output) for tiles of one row.
    template <class Work> void by_rows(long first, long last, Work work) const {
        for (long tile = first, n; tile < last; tile += n) {
            n = std::min(last - tile, wide - tile % wide);
            work(tile - first, n, tile / (high * wide), tile / wide % high * 2, tile % wide * 2);
        }
    }
};

// to [POINTS, tiles, until - from] = B^T d B for the channels from, ..., until - 1 of pictures x.
template <class R>
void read_inputs(const Tiles& tiles, const R* x, long first, long last, long from, long until, R* to) {
    using V = typename Lane<R>::V;
    const Window& s = tiles.s;
    const long channels = until - from, apart = tiles.apart(channels);
    tiles.by_rows(first, last, [&](long at, long n, long picture, long y, long left) {
        for (long c = 0; c < channels; c += Lane<R>::size) {
            // A column of a tile, times B^T; two neighbouring tiles have two columns in common.
            auto column = [&](long across, V (&found)[4]) {
                V d[4] = {};
                for (int i = 0; i < 4; i++) {
                    const long down = y - s.top + i;
                    if (across < 0 || across >= s.width || down < 0 || down >= s.height) continue;
                    d[i] = get(x + ((picture * s.height + down) * s.width + across) * s.c + from + c, Full{});
                }
                of_inputs(d, found);
            };
            V columns[4][4];
            for (int j = 0; j < 2; j++) column(left - s.left + j, columns[j]);
            for (long tile = 0; tile < n; tile++) {
                for (int j = 2; j < 4; j++) column(left - s.left + 2 * tile + j, columns[j]);
                R* place = to + (at + tile) * channels + c;
                for (int i = 0; i < 4; i++) {
                    V found[4];
                    of_inputs({columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, found);
                    for (int j = 0; j < 4; j++) put(place + (i * 4 + j) * apart, found[j], Full{});
                }
                for (int j = 0; j < 2; j++)
                    for (int i = 0; i < 4; i++) columns[j][i] = columns[j + 2][i];
            }
        }
    });
}

// Calls work(i, j, place) for the outputs of a tile that exist, `place` being that of (0, 0) in maps of the size of s.
template <class Work> inline void inside(const Window& s, long y, long x, Work work) {
    for (int i = 0; i < 2 && y + i < s.h; i++)
        for (int j = 0; j < 2 && x + j < s.w; j++) work(i, j, i * s.w + j);
}

// Calls work(values, outputs, y, x) for a vector of o channels of each tile: where it lies in [tiles, o], where its
// first output lies in maps [n, h, w, o], and where in the picture.
template <class R, class Work>
inline void by_outputs(const Tiles& tiles, long first, long last, long o, Work work) {
    const Window& s = tiles.s;
    tiles.by_rows(first, last, [&](long at, long n, long picture, long y, long x) {
        for (long tile = 0; tile < n; tile++, x += 2)
            for (long c = 0; c < o; c += Lane<R>::size)
                work((at + tile) * o + c, ((picture * s.h + y) * s.w + x) * o + c, y, x);
    });
}

// out (+)= A^T m A for m [POINTS, tiles, o].
template <class R> void write_outputs(const Tiles& tiles, const R* m, long first, long last, long o, R* out, bool add) {
    using V = typename Lane<R>::V;
    const long apart = tiles.apart(o);
    by_outputs<R>(tiles, first, last, o, [&](long values, long outputs, long y, long x) {
        V half[4][2], found[2][2];
        for (int j = 0; j < 4; j++) {
            V column[4];
            for (int i = 0; i < 4; i++) column[i] = get(m + values + (i * 4 + j) * apart, Full{});
            to_outputs(column, half[j]);
        }
        for (int i = 0; i < 2; i++) to_outputs({half[0][i], half[1][i], half[2][i], half[3][i]}, found[i]);
        inside(tiles.s, y, x, [&](int i, int j, long place) {
            R* to = out + outputs + place * o;
            put(to, add ? get(to, Full{}) + found[i][j] : found[i][j], Full{});
        });
    });
}

// to [POINTS, tiles, o] = A g A^T for the gradients g of the outputs.
template <class R> void read_gradients(const Tiles& tiles, const R* g, long first, long last, long o, R* to) {
    using V = typename Lane<R>::V;
    const long apart = tiles.apart(o);
    by_outputs<R>(tiles, first, last, o, [&](long values, long outputs, long y, long x) {
        V d[2][2] = {}, half[2][4];
        inside(tiles.s, y, x, [&](int i, int j, long place) { d[i][j] = get(g + outputs + place * o, Full{}); });
        for (int j = 0; j < 2; j++) of_outputs(d[0][j], d[1][j], half[j]);
        for (int i = 0; i < 4; i++) {
            V found[4];
            of_outputs(half[0][i], half[1][i], found);
            for (int j = 0; j < 4; j++) put(to + values + (i * 4 + j) * apart, found[j], Full{});
        }
    });
}

// to [POINTS, o, c] = G g G^T for a weight [o, 3, 3, c], or with `turned` for each kernel turned by half a turn.
template <class R> void read_kernel(const R* weight, long o, long c, bool turned, R* to) {
    using V = typename Lane<R>::V;
    for (long k = 0; k < o; k++)
        for (long e = 0; e < c; e += Lane<R>::size) {
            V g[9], half[3][4];
            for (int i = 0; i < 9; i++) g[i] = get(weight + (k * 9 + (turned ? 8 - i : i)) * c + e, Full{});
            for (int j = 0; j < 3; j++) of_kernel(g[j], g[3 + j], g[6 + j], half[j]);
            for (int i = 0; i < 4; i++) {
                V found[4];
                of_kernel(half[0][i], half[1][i], half[2][i], found);
                for (int j = 0; j < 4; j++) put(to + ((i * 4 + j) * o + k) * c + e, found[j], Full{});
            }
        }
}

// weight [o, 3, 3, columns from, ..., until - 1 of c] = G^T u G for u [POINTS, o, until - from].
template <class R> void write_kernel(const R* u, long o, long c, long from, long until, R* weight) {
    using V = typename Lane<R>::V;
    const long channels = until - from;
    for (long k = 0; k < o; k++)
        for (long e = 0; e < channels; e += Lane<R>::size) {
            V half[4][3];
            for (int j = 0; j < 4; j++) {
                V values[4];
                for (int i = 0; i < 4; i++) values[i] = get(u + ((i * 4 + j) * o + k) * channels + e, Full{});
                to_kernel(values, half[j]);
            }
            for (int i = 0; i < 3; i++) {
                V found[3];
                to_kernel({half[0][i], half[1][i], half[2][i], half[3][i]}, found);
                for (int j = 0; j < 3; j++) put(weight + (k * 9 + i * 3 + j) * c + from + e, found[j], Full{});
            }
        }
}

// out [n, h, w, o] = (or, with `add`, +=) A^T [u * (B^T x B)] A for the transformed kernels u [POINTS, c, o].
template <class R> void filter(const Window& s, const R* x, const R* u, long o, R* out, bool add, int threads) {
    const long c = s.c, kernel = c * o;
    const Tiles tiles(s, o, sizeof(R));
    const Even of_kernel{c, o};
    each(Parts(tiles.count, tiles.at_once), threads, [&](long first, long last, long) {
        const Rows of_inputs = Even{last - first, c}, of_outputs = Even{last - first, o};
        R* v = room<1, R>(tiles.values(c) + tiles.values(o));
        R* m = v + tiles.values(c);
        read_inputs(tiles, x, first, last, 0, c, v);
        for (long k = 0; k < POINTS; k++)
            multiply<R, Even>({v + k * tiles.apart(c), of_inputs}, 1, {u + k * kernel, of_kernel}, o,
                        {m + k * tiles.apart(o), of_outputs}, false);
        write_outputs(tiles, m, first, last, o, out, add);
    });
}

// One task: out [n, h, w, o] = (or, with `add`, +=) x [n, height, width, c] convolved with a weight [o, 3, 3, c].
template <class R>
void winograd(const Window& s, const R* x, const R* weight, long o, R* out, bool add, int threads) {
    const long kernel = s.c * o;
    R *u = room<0, R>(POINTS * kernel), *other = room<1, R>(POINTS * kernel);
    read_kernel(weight, o, s.c, false, other);
    for (long k = 0; k < POINTS; k++) transpose(other + k * kernel, o, s.c, u + k * kernel);
    filter(s, x, u, o, out, add, threads);
}

// One task: of_x [n, height, width, c] for the gradients [n, h, w, o] of the outputs. They are convolved with each
// kernel turned by half a turn, and a margin of 2 - p puts the result in its place.
template <class R>
void winograd_to_inputs(const Window& s, const R* gradient, const R* weight, long o, R* of_x, int threads) {
    R* u = room<0, R>(POINTS * s.c * o);
    read_kernel(weight, o, s.c, true, u);
    const Window back{s.n, s.h, s.w, o, 3, 3, 1, 1, 2 - s.top, 2 - s.left, s.height, s.width};
    filter(back, gradient, u, s.c, of_x, false, threads);
}

// One task: of_weight [o, 3, 3, c] for inputs x and the gradients [n, h, w, o] of its outputs. Threads share out the
// channels in, so each sum is one thread's.
template <class R>
void winograd_to_weight(const Window& s, const R* x, const R* gradient, long o, R* of_weight, int threads) {
    const Tiles tiles(s, o, sizeof(R));
    const long vectors = s.c / Lane<R>::size, at_once = (vectors + threads - 1) / threads * Lane<R>::size;
    each(Parts(s.c, at_once), threads, [&](long from, long until, long) {
        const long channels = until - from;
        const Rows columns = Even{o, 1}, of_kernel = Even{o, channels};
        R* u = room<0, R>(POINTS * o * channels);
        R* v = room<1, R>(tiles.values(channels) + tiles.values(o));
        R* m = v + tiles.values(channels);
        for (long first = 0; first < tiles.count; first += tiles.at_once) {
            const long last = std::min(first + tiles.at_once, tiles.count);
            read_inputs(tiles, x, first, last, from, until, v);
            read_gradients(tiles, gradient, first, last, o, m);
            const Even of_inputs{last - first, channels};
            for (long k = 0; k < POINTS; k++)
                multiply<R, Even>({m + k * tiles.apart(o), columns}, o, {v + k * tiles.apart(channels), of_inputs},
                                  channels, {u + k * o * channels, of_kernel}, first > 0);
        }
        write_kernel(u, o, s.c, from, until, of_weight);
    });
}

}  // namespace
