// Vectors of channels, and work shared out among threads in parts of a fixed size.
//
// Sums go over the parts in their order, so they do not depend on the number of threads; within a part few values are
// added in R (float or double), and the rest in double.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

constexpr long ROWS = 64;    // places whose sum is taken in R
constexpr long PART = 4096;  // places of a part

#if defined(__AVX512F__)
constexpr int BYTES = 64;  // of a register
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

// A register of neighbouring channels: V values, M a mask or an index of each, B an index as it is stored.
template <class R> struct Lane {
    static constexpr int size = BYTES / sizeof(R);
    using I = std::conditional_t<sizeof(R) == 4, int32_t, int64_t>;
    typedef R V __attribute__((vector_size(BYTES)));
    typedef I M __attribute__((vector_size(BYTES)));
    typedef uint8_t B __attribute__((vector_size(size)));
    typedef R InMemory __attribute__((vector_size(BYTES), aligned(sizeof(R)), may_alias));
    typedef uint8_t IndexInMemory __attribute__((vector_size(size), aligned(1), may_alias));
};

struct Full {};  // every element of the vector is a channel
struct Some {    // only the first `count` elements are
    int count;
};

template <class R> inline typename Lane<R>::V get(const R* at, Full) { return *(const typename Lane<R>::InMemory*)at; }
template <class R> inline typename Lane<R>::V get(const R* at, Some some) {
    typename Lane<R>::V values = {};
    std::memcpy(&values, at, some.count * sizeof(R));
    return values;
}
template <class R> inline void put(R* at, typename Lane<R>::V values, Full) {
    *(typename Lane<R>::InMemory*)at = values;
}
template <class R> inline void put(R* at, typename Lane<R>::V values, Some some) {
    std::memcpy(at, &values, some.count * sizeof(R));
}
template <class R> inline typename Lane<R>::M get_index(const uint8_t* at, Full) {
    return __builtin_convertvector(*(const typename Lane<R>::IndexInMemory*)at, typename Lane<R>::M);
}
template <class R> inline typename Lane<R>::M get_index(const uint8_t* at, Some some) {
    typename Lane<R>::B stored = {};
    std::memcpy(&stored, at, some.count);
    return __builtin_convertvector(stored, typename Lane<R>::M);
}
template <class R> inline void put_index(uint8_t* at, typename Lane<R>::M index, Full) {
    *(typename Lane<R>::IndexInMemory*)at = __builtin_convertvector(index, typename Lane<R>::B);
}
template <class R> inline void put_index(uint8_t* at, typename Lane<R>::M index, Some some) {
    const auto stored = __builtin_convertvector(index, typename Lane<R>::B);
    std::memcpy(at, &stored, some.count);
}

// Calls work(c, which) for the channels from c on, a vector at a time; `which` is Full or Some.
template <class R, class Work> inline void lanes(long channels, Work work) {
    long c = 0;
    for (; c + Lane<R>::size <= channels; c += Lane<R>::size) work(c, Full{});
    if (c < channels) work(c, Some{(int)(channels - c)});
}

// Adds the elements of a vector that are channels to sums in double.
template <class R> inline void add_to(double* sums, typename Lane<R>::V values, long c, long channels) {
    for (long l = 0; l < std::min<long>(Lane<R>::size, channels - c); l++) sums[c + l] += values[l];
}

// The gradient in front of the activation, whose outputs are y.
template <class V, class R> inline V let_through(V gradient, V y, R slope) {
    return y > 0 ? gradient : gradient * slope;
}

// `total` things in parts of `at_once`; the last part may be smaller.
struct Parts {
    long total, at_once, count;
    Parts(long total, long at_once) : total(total), at_once(at_once), count((total + at_once - 1) / at_once) {}
    long size(long part) const { return std::min(total, (part + 1) * at_once) - part * at_once; }
};

// Calls work(first, last, part) for every part, on up to `threads` threads; fewer if the machine has no more to give.
// An exception of a part is thrown again when all threads have ended.
template <class Work> void each(const Parts& parts, int threads, Work work) {
    const long workers = std::max(1L, std::min<long>(threads, parts.count));
    std::exception_ptr thrown;
    std::mutex held;
    auto share = [&](long worker) {
        try {
            for (long part = worker; part < parts.count; part += workers)
                work(part * parts.at_once, part * parts.at_once + parts.size(part), part);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(held);
            thrown = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(workers - 1);
    for (long worker = 1; worker < workers; worker++) {
        try {
            others.emplace_back(share, worker);
        } catch (...) {  // no thread to be had, or no memory for one
            share(worker);
        }
    }
    share(0);
    for (auto& other : others) other.join();
    if (thrown) std::rethrow_exception(thrown);
}

// The maps of a task: n pictures of h x w places with o channels, and a pool of p x p.
struct Maps {
    long n, h, w, o, p;
    long high() const { return h / p; }  // size after the pool; what fills no window is left out, as torch does
    long wide() const { return w / p; }
    long places() const { return n * h * w; }
    long pooled() const { return n * high() * wide(); }
    long origin(long row) const { return (row / high()) * h * w + (row % high()) * p * w; }  // first place of a row
    Parts rows() const { return Parts(n * high(), std::max(1L, PART / std::max(1L, wide() * p * p))); }
    // Calls work(place) for the places that no window of a pooled row covers: at its right, and below the last row.
    template <class Work> void outside(long row, Work work) const {
        for (long i = 0; i < p; i++)
            for (long j = wide() * p; j < w; j++) work(origin(row) + i * w + j);
        if (row % high() == high() - 1)
            for (long i = high() * p * w; i < h * w; i++) work((row / high()) * h * w + i);
    }
};

}  // namespace
