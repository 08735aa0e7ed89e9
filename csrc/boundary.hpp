// When an answer that still runs is to be handed to another model: a bound on one statistic over the number of tokens
// (docs/moments.md). Pure.
//
// At knot k, `tokens[k]` into the answer, with the statistic at x, the chance that it will be right is
//
//   q_k(x) = sigmoid(intercept[k] + slope[k] * x + prior_weight[k] * prior)
//
// and `left[k]` tokens are still expected. Backwards from the last knot, with the statistic as it stands (it moves
// slowly) and S the chance that the answer still runs at the next knot:
//
//   hand over   Q(x) - price * large_cost[k]
//   go on       S * best_{k+1}(x) + (1 - S) * ended(x) - price * token_usd * tokens made until then
//
// An optimal stopping rule (Wald, "Sequential Analysis", 1947; Chow, Robbins and Siegmund, "Great Expectations", 1971).
// The bound is where the two are worth the same.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "normal.hpp"
#include "plan.hpp"

namespace headgate {

struct RunningAnswer {
  std::vector<double> tokens, intercept, slope, prior_weight, left;  // of one length, `tokens` rising
  double prior = 0;                                                  // log odds
  // The doubtful side of the statistic: -1 below its bound, 1 above it, 0: there is no statistic but the tokens.
  int32_t doubtful = -1;
  double least = -20, most = 0;  // what the statistic can be
  double token_usd = 0;          // of the small model
  double price = 0, spread = 0, correlation = 0;
  double large_quality = 0, large_spread = 0;
  std::vector<double> large_cost_usd;  // at the knots, and once the answer has ended: one more
  bool after = true;                   // an answer that ended can still be given to the large model
};

struct Knot {
  double tokens, bound;
};

// In quality points, what is spent left out.
struct Worth {
  double going_on, handing_over;
};

class Boundary {
 public:
  explicit Boundary(const RunningAnswer& answer) : a_(answer), known_(quality_of(answer.prior)) {
    for (size_t k = 0; k < a_.tokens.size(); ++k) survives_.push_back(survival(k));
  }

  // From the first knot at which the answer may be handed over; empty: it never is.
  std::vector<Knot> knots() const {
    std::vector<Knot> out;
    if (a_.doubtful == 0) return at_tokens();
    for (size_t k = 0; k < a_.tokens.size(); ++k) {
      const double bound = bound_at(k);
      if (out.empty() && bound == never()) continue;
      out.push_back({a_.tokens[k], bound});
    }
    return out;
  }

  // Of an answer of so many tokens; straight between knots.
  Worth worth(double tokens, double x) const {
    const size_t size = a_.tokens.size();
    size_t k = 0;
    while (k + 1 < size && a_.tokens[k + 1] <= tokens) ++k;
    if (k + 1 == size || tokens <= a_.tokens[k]) return {going_on(k, x), handing_over(k, x)};
    const double share = (tokens - a_.tokens[k]) / (a_.tokens[k + 1] - a_.tokens[k]);
    return {going_on(k, x) * (1 - share) + going_on(k + 1, x) * share,
            handing_over(k, x) * (1 - share) + handing_over(k + 1, x) * share};
  }

  // Going on less handing over, at knot k where the statistic is x.
  double lead(size_t k, double x) const { return going_on(k, x) - handing_over(k, x); }

 private:
  static constexpr int kSteps = 24, kHalvings = 20;
  const RunningAnswer& a_;
  double known_;  // the prior as a chance
  std::vector<double> survives_;

  static double quality_of(double odds) { return 1 / (1 + std::exp(-odds)); }
  static double clipped(double quality) { return std::min(std::max(quality, 0.0), 1.0); }
  double never() const { return a_.doubtful < 0 ? a_.least : a_.most; }
  double always() const { return a_.doubtful < 0 ? a_.most : a_.least; }

  double chance(size_t k, double x) const {
    return quality_of(a_.intercept[k] + a_.slope[k] * x + a_.prior_weight[k] * a_.prior);
  }

  // left[k] = E[tokens until the next knot or the end] + S * left[k + 1], where those that end do so halfway.
  double survival(size_t k) const {
    if (k + 1 == a_.tokens.size()) return 0;
    const double half = (a_.tokens[k + 1] - a_.tokens[k]) / 2;
    const double after = a_.left[k + 1] + half;
    return after > 0 ? clipped((a_.left[k] - half) / after) : 1;
  }

  // What is thought of the large model's answer, where what was seen of the small one's moves it.
  double large(double seen) const {
    if (!(a_.spread > 0) || !(a_.correlation > 0)) return a_.large_quality;
    const double most = planning::kMostSurprise;
    const double surprise = std::min(std::max((seen - known_) / a_.spread, -most), most);
    return clipped(a_.large_quality + a_.correlation * a_.large_spread * surprise);
  }

  double handing_over(size_t k, double x) const { return large(chance(k, x)) - a_.price * a_.large_cost_usd[k]; }

  // An answer that ended, right with chance `quality` before its last evidence is seen.
  double ended(double quality, double large_cost_usd) const {
    if (!a_.after) return quality;
    const double spread = std::min(a_.spread, planning::most_spread(quality));
    const double apart = std::fabs(spread - a_.correlation * a_.large_spread);
    return quality + normal::above(large(quality) - a_.price * large_cost_usd - quality, spread > 0 ? apart : 0);
  }

  double going_on(size_t k, double x) const {
    const double now = chance(k, x);
    if (k + 1 == a_.tokens.size()) return ended(now, a_.large_cost_usd.back()) - a_.price * a_.token_usd * a_.left[k];
    const double survives = survives_[k], apart = a_.tokens[k + 1] - a_.tokens[k];
    const double made = survives * apart + (1 - survives) * apart / 2;
    double value = -a_.price * a_.token_usd * made;
    if (survives > 0) value += survives * std::max(going_on(k + 1, x), handing_over(k + 1, x));
    if (survives < 1) {
      // What is thought now is the mean of what will be thought of those that run on and those that end.
      const double then = clipped((now - survives * chance(k + 1, x)) / (1 - survives));
      value += (1 - survives) * ended(then, (a_.large_cost_usd[k] + a_.large_cost_usd[k + 1]) / 2);
    }
    return value;
  }

  // From the doubtful end towards the other, until going on is worth as much as handing over. A statistic that speaks
  // against itself (a slope of the wrong sign) bounds nothing.
  double bound_at(size_t k) const {
    const double toward = a_.doubtful < 0 ? 1 : -1;
    if (a_.slope[k] * toward < 0) return never();
    const double from = never(), step = toward * (a_.most - a_.least) / kSteps;
    if (!(lead(k, from) < 0)) return never();
    for (int i = 1; i <= kSteps; ++i) {
      double low = from + step * (i - 1), high = from + step * i;
      if (lead(k, high) < 0) continue;
      for (int h = 0; h < kHalvings; ++h) {
        const double middle = (low + high) / 2;
        (lead(k, middle) < 0 ? low : high) = middle;
      }
      return (low + high) / 2;
    }
    return always();
  }

  // By its length alone: where the lead reaches 0, straight between knots.
  std::vector<Knot> at_tokens() const {
    for (size_t k = 0; k < a_.tokens.size(); ++k) {
      const double now = lead(k, 0);
      if (!(now < 0)) continue;
      if (k == 0) return {{a_.tokens[0], 0}};
      const double before = lead(k - 1, 0);
      return {{a_.tokens[k - 1] + (a_.tokens[k] - a_.tokens[k - 1]) * before / (before - now), 0}};
    }
    return {};
  }
};

}  // namespace headgate
