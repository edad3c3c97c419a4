// Batch norm, activation and max-pool of one task with their first and second derivatives: the formulas of
// layers/cpu/tail.py and normalising.py in few passes over memory.
//
// All maps are dense with their channels last: x [n, h, w, o]. A pool has the side p, 1 (none) or 2, and steps of the
// same length; `index` says from which of its p * p places a maximum came, and `chosen` is the value there before norm
// and activation.
#pragma once
#include "vectors.h"

namespace {

// The mean and 1 / sqrt(variance + eps) of each channel. Blocks are joined as in Chan, Golub & LeVeque 1983, (2.1).
template <class R> void moments(const Maps& s, const R* x, double eps, R* mean, R* root, int threads) {
    using V = typename Lane<R>::V;
    const long o = s.o;
    const Parts parts(s.places(), PART);
    std::vector<double> means(parts.count * o, 0.0), squares(parts.count * o, 0.0);
    auto join = [](double& m, double& q, double count, double other_m, double other_q, double other_count) {
        const double apart = other_m - m, all = count + other_count;
        q += other_q + apart * apart * count * other_count / all;
        m += apart * other_count / all;
    };
    each(parts, threads, [&](long first, long last, long part) {
        for (long block = first; block < last; block += ROWS) {
            const long end = std::min(block + ROWS, last);
            lanes<R>(o, [&](long c, auto which) {
                V sum = {}, square = {};
                for (long i = block; i < end; i++) sum += get(x + i * o + c, which);
                const V m = sum / R(end - block);
                for (long i = block; i < end; i++) {
                    const V apart = get(x + i * o + c, which) - m;
                    square += apart * apart;
                }
                for (long l = 0; l < std::min<long>(Lane<R>::size, o - c); l++) {
                    const long at = part * o + c + l;
                    join(means[at], squares[at], block - first, m[l], square[l], end - block);
                }
            });
        }
    });
    for (long c = 0; c < o; c++) {
        double m = 0, q = 0;
        for (long part = 0; part < parts.count; part++)
            join(m, q, part * PART, means[part * o + c], squares[part * o + c], parts.size(part));
        mean[c] = R(m);
        root[c] = R(1 / std::sqrt(q / s.places() + eps));
    }
}

// y = a(max over a window of (by * x + plus)) with by = weight * root and plus = bias - by * mean: the norm of tail.py,
// one multiplication and one addition for each value. The maximum is found before the activation a, which never falls.
// Mean and root are those of the first `known` pictures.
template <class R>
void forward(const Maps& s, long known, const R* x, const R* weight, const R* bias, double eps, R slope, R* mean,
             R* root, R* out, R* chosen, uint8_t* index, int threads) {
    using V = typename Lane<R>::V;
    using M = typename Lane<R>::M;
    moments(Maps{known, s.h, s.w, s.o, s.p}, x, eps, mean, root, threads);
    const long o = s.o;
    std::vector<R> by(o), plus(o);
    for (long c = 0; c < o; c++) by[c] = weight[c] * root[c], plus[c] = bias[c] - by[c] * mean[c];
    each(s.rows(), threads, [&](long first, long last, long) {
        for (long row = first; row < last; row++) {
            const R* at = x + s.origin(row) * o;
            for (long j = 0, i = row * s.wide() * o; j < s.wide(); j++, at += s.p * o, i += o)
                lanes<R>(o, [&](long c, auto which) {
                    const V b = get(&by[c], which), d = get(&plus[c], which);
                    V from = get(at + c, which), best = b * from + d;
                    if (s.p == 2) {
                        M place = {};
                        // Right of it, below it, below and right; an earlier place wins a tie, as in torch.
                        const R* others[3] = {at + o, at + s.w * o, at + s.w * o + o};
                        for (int k = 0; k < 3; k++) {
                            const V other = get(others[k] + c, which), y = b * other + d;
                            const M more = y > best;
                            place = more ? M{} + (k + 1) : place;
                            from = more ? other : from;
                            best = more ? y : best;
                        }
                        put(chosen + i + c, from, which);
                        put_index<R>(index + i + c, place, which);
                    }
                    put(out + i + c, let_through(best, best, slope), which);
                });
        }
    });
}

// Writes gradient * scale where a maximum came from, plus by * x + plus (+ times * u) (+ more) everywhere.
template <class R, bool WITH_U>
void spread(const Maps& s, const R* gradient, const R* out, const uint8_t* index, R slope, const R* x, const R* u,
            const R* more, const R* scale, const R* by, const R* plus, const R* times, R* to, int threads) {
    using V = typename Lane<R>::V;
    using M = typename Lane<R>::M;
    const long o = s.o;
    auto everywhere = [&](long i, long c, auto which) {
        V value = get(by + c, which) * get(x + i + c, which) + get(plus + c, which);
        if (WITH_U) value += get(times + c, which) * get(u + i + c, which);
        if (more) value += get(more + i + c, which);
        return value;
    };
    each(s.rows(), threads, [&](long first, long last, long) {
        for (long row = first; row < last; row++) {
            for (long j = 0, i = row * s.wide() * o; j < s.wide(); j++, i += o) {
                const long place = (s.origin(row) + j * s.p) * o;
                lanes<R>(o, [&](long c, auto which) {
                    const V g = get(gradient + i + c, which) * get(scale + c, which);
                    const V here = let_through(g, get(out + i + c, which), slope);
                    if (s.p == 1) return put(to + place + c, everywhere(place, c, which) + here, which);
                    const M from = get_index<R>(index + i + c, which);
                    const long of[4] = {place, place + o, place + s.w * o, place + s.w * o + o};
                    for (int k = 0; k < 4; k++)
                        put(to + of[k] + c, everywhere(of[k], c, which) + (from == k ? here : V{}), which);
                });
            }
            s.outside(row, [&](long i) {
                lanes<R>(o, [&](long c, auto which) { put(to + i * o + c, everywhere(i * o, c, which), which); });
            });
        }
    });
}

// dL/dx = w r (g - [g] - x' [g x']) with x' = r (x - [x]), r the root and g = dL/d(output of the norm), which is zero
// but at the chosen places. Written as scale * g + by * x + plus in each channel:
// scale = w r, by = -w r^2 [g x'], plus = -w r [g] - by [x].
template <class R>
void gradients(const Maps& s, const R* gradient, const R* out, const R* chosen, const uint8_t* index, R slope,
               const R* x, const R* mean, const R* root, const R* weight, const R* more, R* of_x, R* of_weight,
               R* of_bias, int threads) {
    using V = typename Lane<R>::V;
    const long o = s.o;
    const Parts parts(s.pooled(), PART);
    if (s.p == 1) chosen = x;  // without a pool every place is chosen
    std::vector<double> sums(2 * parts.count * o, 0.0);  // of each part: sum g, then sum g (x - [x])
    each(parts, threads, [&](long first, long last, long part) {
        for (long block = first; block < last; block += ROWS)
            lanes<R>(o, [&](long c, auto which) {
                V sum = {}, product = {};
                const V m = get(mean + c, which);
                for (long i = block * o + c; i < std::min(block + ROWS, last) * o; i += o) {
                    const V g = let_through(get(gradient + i, which), get(out + i, which), slope);
                    sum += g;
                    product += g * (get(chosen + i, which) - m);
                }
                add_to<R>(&sums[2 * part * o], sum, c, o);
                add_to<R>(&sums[(2 * part + 1) * o], product, c, o);
            });
    });
    std::vector<R> scale(o), by(o), plus(o);
    for (long c = 0; c < o; c++) {
        double sum = 0, product = 0;
        for (long part = 0; part < parts.count; part++)
            sum += sums[2 * part * o + c], product += sums[(2 * part + 1) * o + c];
        of_bias[c] = R(sum);
        of_weight[c] = R(product * root[c]);
        const double ws = (double)weight[c] * root[c], slant = -ws * root[c] * of_weight[c] / s.places();
        scale[c] = R(ws);
        by[c] = R(slant);
        plus[c] = R(-ws * sum / s.places() - slant * mean[c]);
    }
    spread<R, false>(s, gradient, out, index, slope, x, nullptr, more, scale.data(), by.data(), plus.data(), nullptr,
                     of_x, threads);
}

// The formulas of `second_gradients` in normalising.py, with its names: q, and d/dx = of_g (g - [g]) + of_u (u - [u]) +
// of_x (x - [x]). At the chosen places d/dg = w r u + of_g x + constant.
template <class R>
void second_gradients(const Maps& s, const R* u, const R* v, const R* z, const R* gradient, const R* out,
                      const R* chosen, const uint8_t* index, R slope, const R* x, const R* mean, const R* root,
                      const R* weight, const R* of_weight, const R* of_bias, R* of_gradient, R* of_x, R* again,
                      int threads) {
    using V = typename Lane<R>::V;
    using M = typename Lane<R>::M;
    const long o = s.o;
    const Parts parts = s.rows();
    if (s.p == 1) chosen = x;
    // One pass finds sum u, sum u (x - [x]) and sum u g; of_gradient holds u at the chosen places until they are known.
    std::vector<double> sums(3 * parts.count * o, 0.0);
    each(parts, threads, [&](long first, long last, long part) {
        for (long row = first; row < last; row++)
            lanes<R>(o, [&](long c, auto which) {
                V sum = {}, product = {}, with_g = {};
                const V m = get(mean + c, which);
                auto seen = [&](long i) {
                    const V value = get(u + i * o + c, which);
                    sum += value;
                    product += value * (get(x + i * o + c, which) - m);
                    return value;
                };
                for (long j = 0, i = row * s.wide() * o + c; j < s.wide(); j++, i += o) {
                    const long place = s.origin(row) + j * s.p;
                    V here = seen(place);
                    if (s.p == 2) {
                        const M from = get_index<R>(index + i, which);
                        const V others[3] = {seen(place + 1), seen(place + s.w), seen(place + s.w + 1)};
                        for (int k = 0; k < 3; k++) here = from == k + 1 ? others[k] : here;
                    }
                    put(of_gradient + i, here, which);
                    with_g += here * let_through(get(gradient + i, which), get(out + i, which), slope);
                }
                s.outside(row, seen);
                add_to<R>(&sums[3 * part * o], sum, c, o);
                add_to<R>(&sums[(3 * part + 1) * o], product, c, o);
                add_to<R>(&sums[(3 * part + 2) * o], with_g, c, o);
            });
    });
    std::vector<R> of_g(o), of_u(o), by(o), plus(o), ws(o), constant(o);
    const double size = s.places();
    for (long c = 0; c < o; c++) {
        double sum = 0, product = 0, with_g = 0;
        for (long part = 0; part < parts.count; part++) {
            const double* found = &sums[3 * part * o + c];
            sum += found[0], product += found[o], with_g += found[2 * o];
        }
        const double r = root[c], m = mean[c], mean_u = sum / size, mean_ux = product * r / size;
        const double mean_g = of_bias[c] / size, mean_gx = of_weight[c] / size;
        const double q = with_g / size - mean_u * mean_g - mean_ux * mean_gx;
        const double for_g = v[c] * r - weight[c] * r * r * mean_ux, for_u = -weight[c] * r * r * mean_gx;
        const double for_x = -r * (for_g * mean_gx + for_u * mean_ux + weight[c] * r * r * q);
        of_g[c] = R(for_g), of_u[c] = R(for_u), by[c] = R(for_x), ws[c] = R(weight[c] * r);
        plus[c] = R(-for_g * mean_g - for_u * mean_u - for_x * m);
        constant[c] = R(z[c] - weight[c] * r * mean_u - for_g * m);
        again[c] = R(r * q * size);
    }
    each(Parts(s.pooled(), PART), threads, [&](long first, long last, long) {
        for (long i = first * o; i < last * o; i += o)
            lanes<R>(o, [&](long c, auto which) {
                const V from_u = get(&ws[c], which) * get(of_gradient + i + c, which);
                const V from_x = get(&of_g[c], which) * get(chosen + i + c, which);
                const V value = from_u + from_x + get(&constant[c], which);
                put(of_gradient + i + c, let_through(value, get(out + i + c, which), slope), which);
            });
    });
    spread<R, true>(s, gradient, out, index, slope, x, u, nullptr, of_g.data(), by.data(), plus.data(), of_u.data(),
                    of_x, threads);
}

}  // namespace
