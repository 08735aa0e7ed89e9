// What to run next, or to stop, over plain numbers (docs/moments.md). Pure.
//
// M_i is what will be thought of model i's answer once it is seen: normal around its quality q_i with deviation s_i,
// any two of them correlated by rho. The answers already run are seen: the best of them is worth a. A plan runs model
// i, looks, and where it is then worth it runs model j, too:
//
//   value(stop)    a
//   value(i)       E[max(a, M_i)] - price * c_i + favour_i
//   value(i, j)    value(i) + E[max(0, E[max(0, M_j - max(a, M_i)) | M_i] - price * c_j)]
//
// Dekoninck et al., "A unified approach to routing and cascading for LLMs" (2410.10347), pays all models of a set
// whatever the first of them says: `fixed_value`, never more than value(i, j). Without spreads and with nothing run
// value(i) is the utility of policy.hpp, and the choice its choice.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "normal.hpp"
#include "numbers.hpp"
#include "policy.hpp"

namespace headgate {

// A set that was looked at: `first` is run, and `then` where its evidence asks for it (-1: none).
struct Course {
  int32_t first, then;
  double value;
  double cost_usd;  // expected
};

struct Planned {
  int32_t next = -1, then = -1, answer = -1;
  double stop = 0, value = 0, cost_usd = 0;  // `stop` is told where `answer` is, `value` where anything could be run
  int32_t runnable = 0;
  std::vector<Course> courses;
};

namespace planning {

inline constexpr double kFar = 6;           // deviations to which integrals go
inline constexpr double kMostSurprise = 4;  // deviations by which a seen answer may move what is thought of others

// Gauss and Legendre's nodes above 0 and weights, of 12.
inline constexpr std::array<double, 6> kNodes = {0.1252334085114689, 0.3678314989981802, 0.5873179542866175,
                                                 0.7699026741943047, 0.9041172563704749, 0.9815606342467193};
inline constexpr std::array<double, 6> kWeights = {0.2491470458134028, 0.2334925365383548, 0.2031674267230659,
                                                   0.1600783285433462, 0.1069393259953184, 0.0471753363865118};

// A posterior mean of a label of 0 or 1 varies no more than the label does.
inline double most_spread(double quality) {
  const double variance = quality * (1 - quality);
  return variance > 0 ? std::sqrt(variance) : 0;
}

// The models as they are thought of now: those not run as normal variables.
class Beliefs {
 public:
  std::vector<double> quality, spread;
  double rho = 0, fallback = 0;
  int32_t answer = -1;  // the best of those run; `fallback` is its quality

  void read(const std::vector<Option>& options, double correlation) {
    quality.clear();
    spread.clear();
    rho = correlation;
    answer = -1;
    fallback = 0;
    double surprise = 0;
    int32_t told = 0;
    for (size_t i = 0; i < options.size(); ++i) {
      const Option& o = options[i];
      quality.push_back(o.quality);
      spread.push_back(o.run ? 0 : std::min(std::max(o.spread, 0.0), most_spread(o.quality)));
      if (!o.run) continue;
      if (answer < 0 || o.quality > fallback) {
        answer = static_cast<int32_t>(i);
        fallback = o.quality;
      }
      const double deviation = o.prior.given ? std::min(o.spread, most_spread(o.prior.value)) : 0;
      if (!(deviation > 0)) continue;
      surprise += std::min(std::max((o.quality - o.prior.value) / deviation, -kMostSurprise), kMostSurprise);
      ++told;
    }
    if (told && rho > 0) learn(options, surprise, told);
  }

 private:
  // What was seen of some moves and narrows what is thought of the others: the conditional distribution of
  // equicorrelated normal variables, which are equicorrelated again.
  void learn(const std::vector<Option>& options, double surprise, int32_t told) {
    const double weight = rho / (1 + rho * (told - 1));
    const double explained = weight * rho * told;
    for (size_t i = 0; i < options.size(); ++i) {
      if (options[i].run) continue;
      quality[i] = std::min(std::max(quality[i] + spread[i] * weight * surprise, 0.0), 1.0);
      spread[i] *= std::sqrt(std::max(0.0, 1 - explained));
    }
    rho = explained < 1 ? std::min(std::max((rho - explained) / (1 - explained), 0.0), 1.0) : 0;
  }
};

// Where one model has been run and looked at, and another one may follow. z: deviations by which the first surprised.
struct Follow {
  double best, share;  // value of the option to go on; the chance that it is taken
};

class Pair {
 public:
  Pair(const Beliefs& b, size_t i, size_t j, double cost, double break_even)
      : start_(b.quality[j] - b.quality[i]),
        low_start_(b.quality[j] - b.fallback),
        first_(b.spread[i]),
        shared_(b.rho * b.spread[j]),
        own_(b.spread[j] * std::sqrt(std::max(0.0, 1 - b.rho * b.rho))),
        cost_(cost),
        break_even_(break_even),
        bend_(b.answer < 0 ? -kFar : (b.fallback - b.quality[i]) / b.spread[i]) {}

  Follow follow() const {
    Follow out{0, 0};
    part(low_start_, shared_, -kFar, bend_, &out);
    part(start_, shared_ - first_, bend_, kFar, &out);
    return out;
  }

 private:
  double start_, low_start_, first_, shared_, own_, cost_, break_even_, bend_;

  // The stretch of z in [from, to] where `d + slope * z` is above the break-even point. E[max(0, x + own * Z)] is x
  // where x is above 0, and 0 where it is below, and on either side `above(-|x|, own)` more: the first is summed
  // exactly, the rest is smooth and small.
  void part(double d, double slope, double from, double to, Follow* out) const {
    from = std::max(from, -kFar);
    to = std::min(to, kFar);
    if (slope > 0) {
      from = std::max(from, (break_even_ - d) / slope);
    } else if (slope < 0) {
      to = std::min(to, (break_even_ - d) / slope);
    } else if (!(d > break_even_)) {
      return;
    }
    if (!(from < to)) return;
    const double chance = normal::below(to) - normal::below(from);
    out->share += chance;
    out->best -= cost_ * chance;
    if (slope == 0) {
      out->best += normal::above(d, own_) * chance;
      return;
    }
    const double bend = std::min(std::max(-d / slope, from), to);
    const double low = slope > 0 ? bend : from, high = slope > 0 ? to : bend;
    out->best +=
        d * (normal::below(high) - normal::below(low)) - slope * (normal::density(high) - normal::density(low));
    if (!(own_ > 0)) return;
    const double reach = kFar * own_ / std::fabs(slope);
    out->best += sum(d, slope, std::max(from, bend - reach), bend) + sum(d, slope, bend, std::min(to, bend + reach));
  }

  double sum(double d, double slope, double from, double to) const {
    if (!(from < to)) return 0;
    if (to - from > kFar) return sum(d, slope, from, (from + to) / 2) + sum(d, slope, (from + to) / 2, to);
    const double middle = (from + to) / 2, half = (to - from) / 2;
    double total = 0;
    for (size_t k = 0; k < kNodes.size(); ++k) {
      for (const double z : {middle - half * kNodes[k], middle + half * kNodes[k]}) {
        total += kWeights[k] * normal::density(z) * normal::above(-std::fabs(d + slope * z), own_);
      }
    }
    return half * total;
  }
};

// No less than what `Pair` finds: as if the second's evidence were seen before it is paid for.
inline double most_of_following(const Beliefs& b, size_t i, size_t j, double cost) {
  const double first = b.spread[i], second = b.spread[j];
  const double apart = std::sqrt(std::max(0.0, first * first + second * second - 2 * b.rho * first * second));
  const double most = normal::above(b.quality[j] - b.quality[i] - cost, apart);
  return b.answer < 0 ? most : std::min(most, normal::above(b.quality[j] - b.fallback - cost, second));
}

// Of one model alone as the next, as terms of the policy: ties are resolved as it resolves them.
inline void single_terms(const std::vector<Option>& options, const Beliefs& b, double price, std::vector<Term>* out) {
  out->clear();
  for (size_t i = 0; i < options.size(); ++i) {
    const Option& o = options[i];
    double quality = b.quality[i];
    if (b.answer >= 0 && !o.run) {
      quality = b.spread[i] > 0 ? b.fallback + normal::above(quality - b.fallback, b.spread[i])
                                : std::max(b.fallback, quality);
    }
    const Excluded excluded = o.run || o.excluded ? kTried : kNone;
    const double utility = policy::utility(quality, price, o.cost_usd, o.favour);
    out->push_back({quality, 0, o.cost_usd, 0, utility, excluded, 0, kAsBought, o.favour});
  }
}

struct Bound {
  double most;
  int32_t first, then;
};

// Bounds of the courses of two models that could be worth more than `least`, highest first.
inline void bounds_of(const std::vector<Option>& options, const Beliefs& b, const std::vector<Term>& terms,
                      double price, double least, std::vector<Bound>* out) {
  out->clear();
  for (size_t i = 0; i < terms.size(); ++i) {
    // A model whose evidence tells nothing is never worth running before another.
    if (terms[i].excluded != kNone || !(b.spread[i] > 0)) continue;
    for (size_t j = 0; j < terms.size(); ++j) {
      if (j == i || terms[j].excluded != kNone) continue;
      const double most = terms[i].utility + most_of_following(b, i, j, price * options[j].cost_usd);
      if (most > least) out->push_back({most, static_cast<int32_t>(i), static_cast<int32_t>(j)});
    }
  }
  std::sort(out->begin(), out->end(), [](const Bound& x, const Bound& y) {
    return x.most != y.most ? x.most > y.most : x.first != y.first ? x.first < y.first : x.then < y.then;
  });
}

// By how much the quadrature may be off, in quality points (tests/policy/test_plan.py).
inline constexpr double kOff = 2e-5;

// The best of the courses of two models where it beats `out->value`, those left out that cannot. One whose bound is no
// more than `kOff` below the best is looked at: else which of two that are worth the same is valued, and so the last
// digits of the plan's value, would follow the order of the options.
inline void look_at_pairs(const std::vector<Option>& options, const Beliefs& b, const std::vector<Term>& terms,
                          double price, Planned* out) {
  thread_local std::vector<Bound> bounds;
  thread_local std::vector<double> edges;
  bounds_of(options, b, terms, price, out->value, &bounds);
  edges.assign(terms.size(), std::numeric_limits<double>::quiet_NaN());
  for (const Bound& bound : bounds) {
    if (!(bound.most > out->value - kOff)) break;
    const auto i = static_cast<size_t>(bound.first), j = static_cast<size_t>(bound.then);
    const double cost = price * options[j].cost_usd;
    if (std::isnan(edges[j])) {
      edges[j] = normal::break_even(cost, b.spread[j] * std::sqrt(std::max(0.0, 1 - b.rho * b.rho)));
    }
    const Follow follow = Pair(b, i, j, cost, edges[j]).follow();
    const double value = terms[i].utility + std::max(0.0, follow.best);
    const double cost_usd = options[i].cost_usd + follow.share * options[j].cost_usd;
    out->courses.push_back({bound.first, bound.then, value, cost_usd});
    if (!(value > out->value)) continue;
    out->next = bound.first;
    out->then = bound.then;
    out->value = value;
    out->cost_usd = cost_usd;
  }
}

}  // namespace planning

// `out` is filled anew. `price`: quality points for a dollar; `correlation` 0..1.
inline void plan(const std::vector<Option>& options, double price, double correlation, Planned* out) {
  thread_local planning::Beliefs beliefs;  // kept between calls: room, no state
  thread_local std::vector<Term> terms;
  beliefs.read(options, correlation);
  planning::single_terms(options, beliefs, price, &terms);
  out->courses.clear();
  out->next = out->then = -1;
  out->answer = beliefs.answer;
  out->stop = beliefs.fallback;
  out->value = out->cost_usd = 0;
  out->runnable = 0;
  for (size_t i = 0; i < terms.size(); ++i) {
    if (terms[i].excluded != kNone) continue;
    ++out->runnable;
    out->courses.push_back({static_cast<int32_t>(i), -1, terms[i].utility, terms[i].cost_usd});
  }
  if (!out->runnable) return;
  const int32_t best = policy::by_utility(terms, kNone).member;
  out->next = best;
  out->value = terms[static_cast<size_t>(best)].utility;
  out->cost_usd = terms[static_cast<size_t>(best)].cost_usd;
  if (out->runnable > 1) planning::look_at_pairs(options, beliefs, terms, price, out);
  if (out->answer >= 0 && !(out->value > out->stop)) {
    out->next = out->then = -1;
    out->cost_usd = 0;
  }
}

}  // namespace headgate
