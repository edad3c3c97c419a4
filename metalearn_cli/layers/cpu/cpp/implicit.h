// A convolution as matrix products over patches that are never written down: a product reads each patch in the picture,
// which has got a margin before (implicit GEMM).
//
// Maps have their channels last, c in and o out. The channels that a product has as columns are whole vectors.
#pragma once
#include "patches.h"
#include "products.h"

namespace {

constexpr long PICTURES = 256 << 10;  // bytes of the pictures with margins that are worked on together

// The pictures first, ..., last - 1 of x [n, height, width, channels] with a margin of zeros.
template <class R> struct Framed {
    long height, width, top, left, high, wide, channels;  // high, wide: with the margin
    long together() const { return std::max<long>(1, PICTURES / (high * wide * channels * sizeof(R))); }
    long place(long picture, long y, long x) const { return ((picture * high + y) * wide + x) * channels; }
    const R* copy(const R* x, long first, long last) const {
        R* to = room<1, R>((last - first) * high * wide * channels);
        for (long picture = first; picture < last; picture++)
            for (long y = -top; y < high - top; y++) {
                R* row = to + place(picture - first, y + top, 0);
                const bool inside = y >= 0 && y < height;
                std::fill(row, row + (inside ? left : wide) * channels, R(0));
                if (!inside) continue;
                const R* from = x + (picture * height + y) * width * channels;
                std::copy(from, from + width * channels, row + left * channels);
                std::fill(row + (left + width) * channels, row + wide * channels, R(0));
            }
        return to;
    }
};

template <class R> Framed<R> framed_inputs(const Window& s) {
    const long high = (s.h - 1) * s.down + s.k, wide = (s.w - 1) * s.right + s.l;
    return {s.height, s.width, s.top, s.left, std::max(high, s.height + s.top), std::max(wide, s.width + s.left), s.c};
}

// Where the patches of `pictures` pictures begin in framed inputs.
template <class R> Rows patches_in(const Framed<R>& frame, const Window& s, long pictures) {
    Rows rows;
    rows.reserve(pictures * s.h * s.w);
    for (long picture = 0; picture < pictures; picture++)
        for (long y = 0; y < s.h; y++)
            for (long x = 0; x < s.w; x++) rows.push_back(frame.place(picture, y * s.down, x * s.right));
    return rows;
}

// One task: out [n, h, w, o] = (or, with `add`, +=) x [n, height, width, c] convolved with a weight [o, k, l, c].
template <class R>
void implicit(const Window& s, const R* x, const R* weight, long o, R* out, bool add, int threads) {
    const auto frame = framed_inputs<R>(s);
    R* turned = room<0, R>(s.values() * o);
    transpose(weight, o, s.values(), turned);
    const Even of_kernel{s.l * s.c, o};
    each(Parts(s.n, frame.together()), threads, [&](long first, long last, long) {
        const R* pictures = frame.copy(x, first, last);
        const Rows patches = patches_in(frame, s, last - first), places = Even{(long)patches.size(), o};
        R* to = out + first * s.h * s.w * o;
        for (long i = 0; i < s.k; i++)  // a row of the kernel reads neighbouring values
            multiply<R, Even>({pictures + frame.place(0, i, 0), patches}, 1, {turned + i * s.l * s.c * o, of_kernel}, o,
                        {to, places}, add || i > 0);
    });
}

// One task: of_weight [o, k, l, c] for inputs x and the gradients [n, h, w, o] of the outputs. Threads share out o.
template <class R>
void implicit_to_weight(const Window& s, const R* x, const R* gradient, long o, R* of_weight, int threads) {
    const auto frame = framed_inputs<R>(s);
    each(Parts(o, (o + threads - 1) / threads), threads, [&](long from, long until, long) {
        const Rows channels = Even{until - from, 1}, kernels = Even{until - from, s.values()};
        for (long first = 0; first < s.n; first += frame.together()) {
            const long last = std::min(s.n, first + frame.together());
            const R* pictures = frame.copy(x, first, last);
            const Rows patches = patches_in(frame, s, last - first);
            const R* g = gradient + first * s.h * s.w * o + from;
            for (long i = 0; i < s.k; i++)
                multiply<R, Rows>({g, channels}, o, {pictures + frame.place(0, i, 0), patches}, s.l * s.c,
                            {of_weight + from * s.values() + i * s.l * s.c, kernels}, first > 0);
        }
    });
}

// One task: of_x [n, height, width, c] for the gradients [n, h, w, o] of the outputs.
//
// Pixel (y, x) of a picture with its margin gets a value from place ((y - i) / down, (x - j) / right) for all (i, j) of
// the kernel for which that is a place. These are the same (i, j) for all pixels `down` rows or `right` columns apart.
template <class R>
void implicit_to_inputs(const Window& s, const R* gradient, const R* weight, long o, R* of_x, int threads) {
    // The places that a pixel may ask for, with those outside of the map, which are zero.
    const long above = (s.k - 1) / s.down, before = (s.l - 1) / s.right;
    const long high = above + std::max(s.h, (s.height + s.top - 1) / s.down + 1);
    const long wide = before + std::max(s.w, (s.width + s.left - 1) / s.right + 1);
    const Framed<R> frame{s.h, s.w, above, before, high, wide, o};
    const Even of_kernel{o, s.values()};
    each(Parts(s.n, frame.together()), threads, [&](long first, long last, long) {
        const R* places = frame.copy(gradient, first, last);
        for (long a = 0; a < s.down; a++)
            for (long b = 0; b < s.right; b++) {
                Rows from, pixels;
                for (long picture = first; picture < last; picture++)
                    for (long y = a; y < s.height + s.top; y += s.down)
                        for (long x = b; x < s.width + s.left; x += s.right) {
                            if (y < s.top || x < s.left) continue;
                            from.push_back(frame.place(picture - first, above + y / s.down, before + x / s.right));
                            pixels.push_back(((picture * s.height + y - s.top) * s.width + x - s.left) * s.c);
                        }
                if (a >= s.k || b >= s.l)  // no kernel reaches these
                    for (long pixel : pixels) std::fill(of_x + pixel, of_x + pixel + s.c, R(0));
                for (long i = a; i < s.k; i += s.down)
                    for (long j = b; j < s.l; j += s.right)
                        multiply<R, Even>({places - frame.place(0, i / s.down, j / s.right), from}, 1,
                                    {weight + (i * s.l + j) * s.c, of_kernel}, s.c, {of_x, pixels}, i > a || j > b);
            }
    });
}

}  // namespace
