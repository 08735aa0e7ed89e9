// The standard normal distribution, as far as plans need it.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

namespace headgate {
namespace normal {

inline double density(double x) {
  return 0.39894228040143267794 * std::exp(-0.5 * x * x);
}

inline double below(double x) {
  return 0.5 * std::erfc(-0.70710678118654752440 * x);
}

// E[max(0, d + s * Z)] for a standard normal Z: `d * below(d / s) + s * density(d / s)`. Clark, "The greatest of a
// finite set of random variables" (Operations Research 9, 1961): E[max(X, Y)] = E[X] + above(E[Y - X], deviation of
// Y - X). 0 where a number is none.
inline double above(double d, double s) {
  if (!(s > 0)) return d > 0 ? d : 0;
  if (!(d > -38 * s)) return 0;
  const double u = d / s;
  return std::max(0.0, d * below(u) + s * density(u));
}

// The d for which `above(d, s)` is `cost`: what a model with such a spread must promise beyond what there is to be
// worth `cost`. Newton's steps on the logarithm, which is concave. -infinity where it costs nothing worth telling.
inline double break_even(double cost, double s) {
  if (!(s > 0)) return cost;
  const double k = cost / s;
  if (k > 8) return cost;
  if (!(k > 1e-12)) return -std::numeric_limits<double>::infinity();
  double u = k < 0.4 ? -std::sqrt(std::max(0.0, -2 * std::log(2.5 * k))) : k;
  for (int step = 0; step < 12; ++step) {
    const double at = above(u, 1);
    if (!(at > 0)) break;
    const double move = std::log(at / k) * at / below(u);
    u -= move;
    if (std::fabs(move) < 1e-9) break;
  }
  return u * s;
}

}  // namespace normal
}  // namespace headgate
