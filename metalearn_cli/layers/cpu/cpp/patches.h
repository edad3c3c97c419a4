// The patches of a convolution as the rows of a matrix, and their way back.
#pragma once
#include "vectors.h"

namespace {

// How a kernel of k x l moves over n pictures [height, width, c], with a margin of zeros, to h x w places.
struct Window {
    long n, height, width, c, k, l, down, right, top, left, h, w;
    long values() const { return k * l * c; }
    long places() const { return n * h * w; }
    long pixels() const { return n * height * width * c; }
};

// Writes the patch of place i (of all pictures) to `to`: k rows of l * c values, zeros where there is no picture.
template <class R> inline void cut(const Window& s, const R* x, long i, R* to) {
    const long picture = i / (s.h * s.w), y = i / s.w % s.h * s.down - s.top, across = i % s.w * s.right - s.left;
    // The columns of the kernel that lie within the picture: from, ..., until - 1.
    const long from = std::min(s.l, std::max(0L, -across));
    const long until = std::max(from, std::min(s.l, s.width - across));
    for (long row = 0; row < s.k; row++, to += s.l * s.c) {
        if (y + row < 0 || y + row >= s.height) {
            std::fill(to, to + s.l * s.c, R(0));
            continue;
        }
        const R* at = x + ((picture * s.height + y + row) * s.width + across) * s.c;
        std::fill(to, to + from * s.c, R(0));
        std::copy(at + from * s.c, at + until * s.c, to + from * s.c);
        std::fill(to + until * s.c, to + s.l * s.c, R(0));
    }
}

template <class R> void patches(const Window& s, const R* x, R* to, int threads) {
    each(Parts(s.places(), 256), threads, [&](long first, long last, long) {
        for (long i = first; i < last; i++) cut(s, x, i, to + i * s.values());
    });
}

// The adjoint: adds every value of the patches to the pixel that it was cut from, a row of pixels at a time.
template <class R> void put_back(const Window& s, const R* from, R* x, int threads) {
    const long width = s.width * s.c;
    each(Parts(s.n * s.height, 8), threads, [&](long first, long last, long) {
        for (long pixels = first; pixels < last; pixels++) {
            R* to = x + pixels * width;
            std::fill(to, to + width, R(0));
            for (long row = 0; row < s.k; row++) {
                // A patch whose row `row` lies here begins at y (from the margin), a multiple of `down`.
                const long y = pixels % s.height + s.top - row;
                if (y < 0 || y % s.down || y / s.down >= s.h) continue;
                const R* patch = from + (pixels / s.height * s.h + y / s.down) * s.w * s.values() + row * s.l * s.c;
                for (long j = 0; j < s.w; j++, patch += s.values()) {
                    const long across = j * s.right - s.left, begin = std::max(0L, -across) * s.c;
                    const long end = std::min(s.l, s.width - across) * s.c;
                    if (end <= begin) continue;
                    R* place = to + across * s.c + begin;
                    lanes<R>(end - begin, [&](long i, auto which) {
                        put(place + i, get(place + i, which) + get(patch + begin + i, which), which);
                    });
                }
            }
        }
    });
}

}  // namespace
