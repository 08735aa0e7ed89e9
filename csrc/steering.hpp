// What decisions have chosen so far, in sums for the controllers of `router/policy`, and the share of one member held
// from one decision to the next. Pure: knows no clock and decides nothing itself.
//
// The share: a member gets a request where its margin, its utility less the best of the others, reaches a threshold: a
// quantile of its latest margins. The quantile's level follows what was given too little or too much so far,
//
//     level = share + gain * owed        owed = sum of (share - 1 where the member was chosen) over the requests
//
// (a running quantile, Gibbs and Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021). At
// level 0 the member gets nothing and at level 1 everything, whatever comes, so that |owed| <= 1 / gain + 1: the share
// of n requests is never off by more than (1 / gain + 1) / n.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "policy.hpp"

namespace headgate {

// Over requests that the rule decided. `cost` is at the bought price.
struct DecisionSums {
  double decided = 0;    // requests with a choice of several members
  double all = 0;        // and without one: pinned, or one candidate
  double spent_usd = 0;  // what was chosen: of all
  double least_usd = 0;  // had the cheapest candidate been: of all
  double best_usd = 0;   // had the one of highest quality been: of all
  double quality = 0, least_quality = 0, best_quality = 0, strong_quality = 0;  // likewise, of those with a choice
  double given = 0, offered = 0;  // requests or tokens of the share's member, and of all that could have been
};

class Quantile {
 public:
  static constexpr size_t kWindow = 256;

  void add(double value) {
    if (!std::isfinite(value)) return;
    if (ring_.size() < kWindow) {
      ring_.push_back(value);
    } else {
      sorted_.erase(std::lower_bound(sorted_.begin(), sorted_.end(), ring_[next_]));
      ring_[next_] = value;
      next_ = (next_ + 1) % kWindow;
    }
    sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), value), value);
  }

  // Between the values of which `level`, above 0 and below 1, lie above; 0 where there is none.
  double above(double level) const {
    const size_t n = sorted_.size();
    if (n == 0) return 0;
    const auto below = static_cast<size_t>(std::lround((1 - level) * static_cast<double>(n)));
    if (below == 0) return sorted_.front();
    return below >= n ? sorted_.back() : (sorted_[below - 1] + sorted_[below]) / 2;
  }

 private:
  std::vector<double> ring_, sorted_;
  size_t next_ = 0;
};

class Steering {
 public:
  // Of an index in the pool; below 0: no share is held.
  int32_t member = -1;
  double share = 0;
  bool by_tokens = false;
  bool adds = false;  // dollars and qualities too, which takes a look at each member
  DecisionSums sums;

  // Quality points that the member's utility is raised by: what makes its threshold 0.
  double favour() const {
    const double level = share + kGain * owed_ / (by_tokens ? std::max(mean_tokens_, 1.0) : 1);
    if (level <= 0) return -kAlways;
    return level >= 1 ? kAlways : -margins_.above(level);
  }

  double owed() const { return owed_; }

  // A decision that was acted upon, of a request's first leg.
  void note(const Decided& d) {
    const int32_t chosen = chosen_of(d);
    if (chosen < 0) return;
    if (adds) add(d, static_cast<size_t>(chosen));
    if (!could(d, chosen)) return;
    margins_.add(margin_of(d, chosen));
    const double tokens = by_tokens ? expected_tokens(d, chosen) : 1;
    mean_tokens_ += kNew * (tokens - mean_tokens_);
    count(chosen, tokens);
  }

  // Its answer had other tokens than were expected as it was noted.
  void settle(const Decided& d, double tokens) {
    const int32_t chosen = chosen_of(d);
    if (!by_tokens || chosen < 0 || !std::isfinite(tokens) || tokens < 0) return;
    if (could(d, chosen)) count(chosen, tokens - expected_tokens(d, chosen));
  }

 private:
  static constexpr double kGain = 0.05;
  // Beyond what any margin is.
  static constexpr double kAlways = 1e6;
  static constexpr double kNew = 0.02;

  // The member that was chosen, whether or not its canary got the request.
  static int32_t chosen_of(const Decided& d) {
    const bool diverted = d.choice.member >= 0 && d.choice.reason == kCanaryReason;
    return diverted ? d.members[static_cast<size_t>(d.choice.member)].canary_of : d.choice.member;
  }

  // The rule had a choice.
  static bool free(const Decided& d) { return d.settings.rule == kByUtility && d.choice.runner_up >= 0; }

  static double bought_usd(const Decided& d, const std::vector<Term>& terms, size_t i) {
    return terms[i].gpu_s * d.members[i].usd_per_s;
  }

  void add(const Decided& d, size_t at) {
    policy::terms_of(d, &terms_);
    const Term& term = terms_[at];
    const double usd = bought_usd(d, terms_, at);
    size_t cheapest = at, best = at;
    for (size_t i = 0; free(d) && i < terms_.size(); ++i) {
      if (terms_[i].excluded != term.excluded) continue;
      if (bought_usd(d, terms_, i) < bought_usd(d, terms_, cheapest)) cheapest = i;
      if (terms_[i].quality > terms_[best].quality) best = i;
    }
    const double least_usd = bought_usd(d, terms_, cheapest), best_usd = bought_usd(d, terms_, best);
    if (!std::isfinite(usd + least_usd + best_usd + term.quality)) return;
    sums.all += 1;
    sums.spent_usd += usd, sums.least_usd += least_usd, sums.best_usd += best_usd;
    if (!free(d)) return;
    const auto strong = static_cast<size_t>(d.settings.strong);
    const bool there = strong < terms_.size() && terms_[strong].excluded == term.excluded;
    sums.decided += 1;
    sums.quality += term.quality;
    sums.least_quality += terms_[cheapest].quality;
    sums.best_quality += terms_[best].quality;
    sums.strong_quality += terms_[there ? strong : best].quality;
  }

  // Whether the share's member could have got the request that `chosen` got, and another one too.
  bool could(const Decided& d, int32_t chosen) const {
    if (member < 0 || static_cast<size_t>(member) >= d.members.size() || !free(d)) return false;
    if (chosen == member) return true;
    const double trust = policy::common_trust(d);
    const Excluded rule = policy::term(d, static_cast<size_t>(chosen), trust).excluded;
    return policy::term(d, static_cast<size_t>(member), trust).excluded == rule;
  }

  // Of the member, without its favour, over the best of the others.
  double margin_of(const Decided& d, int32_t chosen) const {
    const auto at = static_cast<size_t>(member);
    if (chosen == member) return d.choice.margin - d.members[at].favour;
    const double trust = policy::common_trust(d);
    const double own = policy::term(d, at, trust).utility - d.members[at].favour;
    return own - policy::term(d, static_cast<size_t>(chosen), trust).utility;
  }

  void count(int32_t chosen, double amount) {
    if (!std::isfinite(amount)) return;
    owed_ += (share - (chosen == member ? 1 : 0)) * amount;
    sums.offered += amount;
    if (chosen == member) sums.given += amount;
  }

  static double expected_tokens(const Decided& d, int32_t chosen) {
    const double mean = d.members[static_cast<size_t>(chosen)].mean_output_tokens;
    double output = policy::known(mean, policy::kOutputTokens);
    if (d.question.max_tokens.given) output = std::min(output, d.question.max_tokens.value);
    return static_cast<double>(d.question.prompt_tokens) + output * d.question.choices;
  }

  Quantile margins_;
  std::vector<Term> terms_;
  double owed_ = 0, mean_tokens_ = 1;
};

}  // namespace headgate
