// The functions that layers/cpu/kernels.py calls, for float and for double.
//
// They compute what the torch forms of layers/cpu compute, which are the way for machines without a compiler, and the
// test of these.
#include "first_block.h"
#include "tail.h"

namespace {

Maps maps_of(const long* s) { return {s[0], s[1], s[2], s[3], s[4]}; }
Window window_of(const long* s) {
    return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11]};
}

}  // namespace

// The first argument of each are the sizes of its maps or of its window, in the order of the structs above.
#define FOR(NAME, R)                                                                                                   \
    extern "C" void forward_##NAME(const long* s, long known, const R* x, const R* weight, const R* bias, double eps,  \
                                   double slope, R* mean, R* root, R* out, R* chosen, uint8_t* index, int threads) {   \
        forward<R>(maps_of(s), known, x, weight, bias, eps, R(slope), mean, root, out, chosen, index, threads);        \
    }                                                                                                                  \
    extern "C" void gradients_##NAME(const long* s, const R* gradient, const R* out, const R* chosen,                  \
                                     const uint8_t* index, double slope, const R* x, const R* mean, const R* root,     \
                                     const R* weight, const R* more, R* of_x, R* of_weight, R* of_bias, int threads) { \
        gradients<R>(maps_of(s), gradient, out, chosen, index, R(slope), x, mean, root, weight, more, of_x, of_weight, \
                     of_bias, threads);                                                                                \
    }                                                                                                                  \
    extern "C" void second_gradients_##NAME(                                                                           \
        const long* s, const R* u, const R* v, const R* z, const R* gradient, const R* out, const R* chosen,           \
        const uint8_t* index, double slope, const R* x, const R* mean, const R* root, const R* weight,                 \
        const R* of_weight, const R* of_bias, R* of_gradient, R* of_x, R* again, int threads) {                        \
        second_gradients<R>(maps_of(s), u, v, z, gradient, out, chosen, index, R(slope), x, mean, root, weight,        \
                            of_weight, of_bias, of_gradient, of_x, again, threads);                                    \
    }                                                                                                                  \
    extern "C" void patches_##NAME(const long* s, const R* x, R* to, int threads) {                                    \
        patches<R>(window_of(s), x, to, threads);                                                                      \
    }                                                                                                                  \
    extern "C" void put_back_##NAME(const long* s, const R* from, R* x, int threads) {                                 \
        put_back<R>(window_of(s), from, x, threads);                                                                   \
    }                                                                                                                  \
    extern "C" void patch_products_##NAME(const long* s, const R* x, long wide, double* sums, int threads) {           \
        patch_products<R>(window_of(s), x, wide, sums, threads);                                                       \
    }                                                                                                                  \
    extern "C" void first_forward_##NAME(const long* s, long p, const R* x, const R* kernel, long o, double slope,     \
                                         R* out, uint8_t* index, int threads) {                                        \
        first_forward<R>(First(window_of(s), p), x, kernel, o, R(slope), out, index, threads);                         \
    }                                                                                                                  \
    extern "C" void first_to_kernel_##NAME(const long* s, long p, const R* x, const R* gradient, const R* out,         \
                                           const uint8_t* index, long o, double slope, R* of_kernel, int threads) {    \
        first_to_kernel<R>(First(window_of(s), p), x, gradient, out, index, o, R(slope), of_kernel, threads);          \
    }                                                                                                                  \
    extern "C" void first_let_through_##NAME(const long* s, long p, const R* x, const R* kernel, const R* out,         \
                                             const uint8_t* index, long o, double slope, R* to, int threads) {         \
        first_let_through<R>(First(window_of(s), p), x, kernel, out, index, o, R(slope), to, threads);                 \
    }

FOR(float, float)
FOR(double, double)
