// What plans are measured against (docs/moments.md): the value of a set whose models are all paid, and a bound that no
// plan passes. Not on the way of a request. Pure.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "greatest.hpp"
#include "normal.hpp"
#include "plan.hpp"

namespace headgate {

// No course, of however many models, is worth more. Whoever answers has been paid, so that none is worth more than
// E[max(a, M_i - price * c_i over all i)] <= t + sum of E[max(0, M_i - price * c_i - t)] for any t of at least a (Lai
// and Robbins, PNAS 73, 1976); the least over t.
inline double most_value(const std::vector<Option>& options, double price, double correlation) {
  planning::Beliefs b;
  b.read(options, correlation);
  double favour = 0, low = b.answer < 0 ? -1e9 : b.fallback, high = b.answer < 0 ? 1 : std::max(1.0, b.fallback);
  for (const Option& o : options) {
    if (!o.run && !o.excluded) favour = std::max(favour, o.favour);
  }
  const auto bound = [&](double t) {
    double total = t;
    for (size_t i = 0; i < options.size(); ++i) {
      if (options[i].run || options[i].excluded) continue;
      total += normal::above(b.quality[i] - price * options[i].cost_usd - t, b.spread[i]);
    }
    return total;
  };
  for (int step = 0; step < 120; ++step) {  // convex in t
    const double left = low + (high - low) / 3, right = high - (high - low) / 3;
    (bound(left) > bound(right) ? low : high) = bound(left) > bound(right) ? left : right;
  }
  return favour + bound((low + high) / 2);
}

// E[max over the members and what has run] - price * the costs of those not run: what a set is worth whose models are
// all paid (Dekoninck et al.). Favours are left out.
inline double fixed_value(const std::vector<Option>& options, const std::vector<int32_t>& members, double price,
                          double correlation) {
  planning::Beliefs b;
  b.read(options, correlation);
  std::vector<double> mean, deviation;
  double cost = 0;
  if (b.answer >= 0) {
    mean.push_back(b.fallback);
    deviation.push_back(0);
  }
  for (const int32_t member : members) {
    const auto i = static_cast<size_t>(member);
    if (options[i].run) continue;
    mean.push_back(b.quality[i]);
    deviation.push_back(b.spread[i]);
    cost += options[i].cost_usd;
  }
  return mean.empty() ? 0 : Greatest(mean, deviation, b.rho).expected() - price * cost;
}

}  // namespace headgate
