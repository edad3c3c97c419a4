// The functions that layers/cpu/kernels.py calls, for float and for double.
//
// They compute what the torch forms of layers/cpu compute, which are the way for machines without a compiler, and the
// test of these.
#include "first_block.h"
#include "implicit.h"
#include "tail.h"
#include "winograd.h"

namespace {

Maps maps_of(const long* s) { return {s[0], s[1], s[2], s[3], s[4]}; }
Window window_of(const long* s) {
    return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11]};
}

// Calls work(task, window of one task, threads) for each of `tasks` tasks, whose pictures the window counts together.
template <class Work> void by_tasks(const long* sizes, long tasks, int threads, Work work) {
    Window s = window_of(sizes);
    s.n /= tasks;
    // Enough tasks are shared out among the threads; of a few, each one is.
    const bool whole = tasks >= threads;
    each(Parts(tasks, 1), whole ? threads : 1, [&](long task, long, long) { work(task, s, whole ? 1 : threads); });
}

// Calls work() and returns 0; 1 if there was no memory for it, 2 after any other exception. None may leave a function
// that C calls.
template <class Work> int status_of(Work work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    } catch (...) {
        return 2;
    }
}

}  // namespace

// The three forms of a convolution, each for all of `tasks` tasks.
#define CONVOLUTION(WAY, NAME, R)                                                                                      \
    extern "C" int WAY##_##NAME(const long* s, long tasks, const R* x, const R* weight, long o, long add, R* out,      \
                                int threads) {                                                                         \
        return status_of([&] {                                                                                         \
            by_tasks(s, tasks, threads, [&](long task, const Window& one, int share) {                                 \
                WAY<R>(one, x + task * one.pixels(), weight + task * o * one.values(), o,                              \
                       out + task * one.places() * o, add, share);                                                     \
            });                                                                                                        \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int WAY##_to_weight_##NAME(const long* s, long tasks, const R* x, const R* gradient, long o,            \
                                          R* of_weight, int threads) {                                                 \
        return status_of([&] {                                                                                         \
            by_tasks(s, tasks, threads, [&](long task, const Window& one, int share) {                                 \
                WAY##_to_weight<R>(one, x + task * one.pixels(), gradient + task * one.places() * o, o,                \
                                   of_weight + task * o * one.values(), share);                                        \
            });                                                                                                        \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int WAY##_to_inputs_##NAME(const long* s, long tasks, const R* gradient, const R* weight, long o,       \
                                          R* of_x, int threads) {                                                      \
        return status_of([&] {                                                                                         \
            by_tasks(s, tasks, threads, [&](long task, const Window& one, int share) {                                 \
                WAY##_to_inputs<R>(one, gradient + task * one.places() * o, weight + task * o * one.values(), o,       \
                                   of_x + task * one.pixels(), share);                                                 \
            });                                                                                                        \
        });                                                                                                            \
    }

// The first argument of each are the sizes of its maps or of its window, in the order of the structs above.
#define FOR(NAME, R)                                                                                                   \
    extern "C" int forward_##NAME(const long* s, long known, const R* x, const R* weight, const R* bias, double eps,   \
                                  double slope, R* mean, R* root, R* out, R* chosen, uint8_t* index, int threads) {    \
        return status_of([&] {                                                                                         \
            forward<R>(maps_of(s), known, x, weight, bias, eps, R(slope), mean, root, out, chosen, index, threads);    \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int gradients_##NAME(const long* s, const R* gradient, const R* out, const R* chosen,                   \
                                    const uint8_t* index, double slope, const R* x, const R* mean, const R* root,      \
                                    const R* weight, const R* more, R* of_x, R* of_weight, R* of_bias, int threads) {  \
        return status_of([&] {                                                                                         \
            gradients<R>(maps_of(s), gradient, out, chosen, index, R(slope), x, mean, root, weight, more, of_x,        \
                         of_weight, of_bias, threads);                                                                 \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int second_gradients_##NAME(                                                                            \
        const long* s, const R* u, const R* v, const R* z, const R* gradient, const R* out, const R* chosen,           \
        const uint8_t* index, double slope, const R* x, const R* mean, const R* root, const R* weight,                 \
        const R* of_weight, const R* of_bias, R* of_gradient, R* of_x, R* again, int threads) {                        \
        return status_of([&] {                                                                                         \
            second_gradients<R>(maps_of(s), u, v, z, gradient, out, chosen, index, R(slope), x, mean, root, weight,    \
                                of_weight, of_bias, of_gradient, of_x, again, threads);                                \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int patches_##NAME(const long* s, const R* x, R* to, int threads) {                                     \
        return status_of([&] {                                                                                         \
            patches<R>(window_of(s), x, to, threads);                                                                  \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int put_back_##NAME(const long* s, const R* from, R* x, int threads) {                                  \
        return status_of([&] {                                                                                         \
            put_back<R>(window_of(s), from, x, threads);                                                               \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int patch_products_##NAME(const long* s, const R* x, long wide, double* sums, int threads) {            \
        return status_of([&] {                                                                                         \
            patch_products<R>(window_of(s), x, wide, sums, threads);                                                   \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int first_forward_##NAME(const long* s, long p, const R* x, const R* kernel, long o, double slope,      \
                                        R* out, uint8_t* index, int threads) {                                         \
        return status_of([&] {                                                                                         \
            first_forward<R>(First(window_of(s), p), x, kernel, o, R(slope), out, index, threads);                     \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int first_to_kernel_##NAME(const long* s, long p, const R* x, const R* gradient, const R* out,          \
                                          const uint8_t* index, long o, double slope, R* of_kernel, int threads) {     \
        return status_of([&] {                                                                                         \
            first_to_kernel<R>(First(window_of(s), p), x, gradient, out, index, o, R(slope), of_kernel, threads);      \
        });                                                                                                            \
    }                                                                                                                  \
    extern "C" int first_let_through_##NAME(const long* s, long p, const R* x, const R* kernel, const R* out,          \
                                            const uint8_t* index, long o, double slope, R* to, int threads) {          \
        return status_of([&] {                                                                                         \
            first_let_through<R>(First(window_of(s), p), x, kernel, out, index, o, R(slope), to, threads);             \
        });                                                                                                            \
    }                                                                                                                  \
    CONVOLUTION(winograd, NAME, R)                                                                                     \
    CONVOLUTION(implicit, NAME, R)

FOR(float, float)
FOR(double, double)
