// What a step of an engine costs, learnt from its step sums: recursive least squares with directional forgetting.
// Pure, and knows no clock. Seconds, tokens. docs/price.md derives what is done here.
//
//   seconds = (1 + f * others) * (a * steps + b * running + c * context + d * prefill)
//
// `others`: the share of a window in which other engines of the same devices were busy, summed over these engines.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "step_sums.hpp"

namespace headgate {

// The latest relative errors of one kind of prediction, and their median.
class Errors {
 public:
  static constexpr size_t kKept = 128;

  uint64_t told() const { return told_; }

  void add(double predicted, double real) {
    if (!(predicted >= 0) || !(real > 0) || !std::isfinite(predicted) || !std::isfinite(real)) return;
    errors_[told_++ % kKept] = std::fabs(predicted - real) / real;
    median_ = -1;
  }

  // 0 where nothing was told.
  double median() const {
    if (median_ >= 0) return median_;
    double sorted[kKept];
    const size_t size = std::min<uint64_t>(told_, kKept);
    if (size == 0) return 0;
    std::copy(errors_, errors_ + size, sorted);
    std::nth_element(sorted, sorted + size / 2, sorted + size);
    return median_ = sorted[size / 2];
  }

  // As if `told` predictions had been wrong by `median` each.
  void restore(uint64_t told, double median) {
    told_ = told;
    std::fill(errors_, errors_ + kKept, median);
    median_ = -1;
  }

 private:
  double errors_[kKept] = {};
  uint64_t told_ = 0;
  mutable double median_ = -1;  // below 0: to be found
};

class StepCost {
 public:
  static constexpr size_t kInputs = 4, kAll = 5;  // a, b, c, d; and f

  // Scaled so that one of each is of the order of a step: what the prior, and a tie between inputs, go by.
  static constexpr double kScale[kAll] = {1, 16, 8192, 512, 1};
  static constexpr double kForget = 1e-3;    // of what is known in a direction, at most, per row of evidence in it
  static constexpr double kPriorSteps = 4;   // standard deviation of an unknown coefficient, in steps
  static constexpr double kPriorFactor = 1;  // and of the factor
  static constexpr double kMostFactor = 8;   // of one other engine that is always busy
  static constexpr uint64_t kWarmUp = 20;    // windows that are weighed by their own seconds, and never cut
  static constexpr double kDoubt = 2.5, kCut = 8;  // in typical errors: weighs less from here on; counts for nothing
  static constexpr double kLeastSpread = 0.02, kNewSpread = 0.05;
  static constexpr double kLost = 0.5;        // a typical error above which what is known is doubted as a whole
  static constexpr uint64_t kPatience = 100;  // windows between two such doubts
  static constexpr double kLeastStep = 1e-4, kMostStep = 1;  // seconds that the prior is scaled by
  static constexpr double kLeastPivot = 1e-9;                // of an input's own sum: what is below is rounding

  uint64_t windows = 0, cut = 0;
  double coefficients[kAll] = {};  // a, b, c, d, f: the nearest that are not negative
  Errors errors;                   // of the seconds of windows

  // Learns from what the sums grew by in one window, in which other engines were busy for `others` of the time.
  void learn(const StepSums& w, double others) {
    others = others > 0 && std::isfinite(others) ? others : 0;
    const double predicted = predict(w.steps, w.running, w.context, w.prefill, others);
    const bool warm = windows >= kWarmUp && predicted > 0;
    if (windows == 0) start(w.seconds / w.steps);
    if (predicted > 0) errors.add(predicted, w.seconds);
    ++windows;
    const double weight = predicted > 0 ? trust(predicted, w.seconds, warm) : 1;
    if (warm && spread_ > kLost && windows - doubted_ > kPatience) start(predicted / w.steps);
    if (weight == 0) {
      ++cut;
      return;
    }
    const double expected = warm ? predicted : w.seconds;
    take(w, others, weight * (w.rows / expected) * (w.rows / expected));
    project();
  }

  // Seconds.
  double predict(double steps, double running, double context, double prefill, double others) const {
    const double* k = coefficients;
    return (1 + k[4] * others) * (k[0] * steps + k[1] * running + k[2] * context + k[3] * prefill);
  }

  // All that is known, to be kept: `kKept` numbers.
  static constexpr size_t kKept = kAll + kAll * (kAll + 1) / 2 + 1;

  void keep(double* out) const {
    for (size_t i = 0; i < kAll; ++i) *out++ = free_[i];
    for (size_t i = 0; i < kAll; ++i) {
      for (size_t j = i; j < kAll; ++j) *out++ = spread_of_[i][j];
    }
    *out = spread_;
  }

  // False, and no change, where these are no such numbers: the covariance must be positive definite.
  bool restore(const double* kept, uint64_t told, uint64_t outliers) {
    StepCost other;
    for (size_t i = 0; i < kKept; ++i) {
      if (!std::isfinite(kept[i])) return false;
    }
    for (size_t i = 0; i < kAll; ++i) other.free_[i] = *kept++;
    for (size_t i = 0; i < kAll; ++i) {
      for (size_t j = i; j < kAll; ++j) other.spread_of_[i][j] = other.spread_of_[j][i] = *kept++;
    }
    other.spread_ = *kept;
    double inverse[kAll][kAll];
    size_t all[kAll] = {0, 1, 2, 3, 4};
    if (!inverted(other.spread_of_, all, kAll, inverse) || other.spread_ <= 0) return false;
    other.windows = told, other.cut = outliers, other.doubted_ = told;
    other.project();
    *this = other;
    return true;
  }

 private:
  // Nothing is known any more, but that a step takes about `step_s`; estimates stay.
  void start(double step_s) {
    const double deviation = kPriorSteps * std::min(std::max(step_s, kLeastStep), kMostStep);
    for (size_t i = 0; i < kAll; ++i) {
      for (size_t j = 0; j < kAll; ++j) spread_of_[i][j] = 0;
      const double own = i < kInputs ? deviation : kPriorFactor;
      spread_of_[i][i] = own * own;
    }
    spread_ = 1;
    doubted_ = windows;
  }

  // How much a window counts, by how many typical errors it is off; 0: not at all.
  double trust(double predicted, double real, bool warm) {
    const double off = real >= predicted ? real / predicted - 1 : predicted / real - 1;
    const double before = spread_;
    spread_ = std::max(kLeastSpread, before + kNewSpread * (std::min(off, kDoubt * before) - before));
    if (!warm || off <= kDoubt * before) return 1;
    return off > kCut * before ? 0 : kDoubt * before / off;
  }

  // The window as at most four rows of evidence, by Cholesky: the first is its mean row, the others how it varied.
  void take(const StepSums& w, double others, double weight) {
    const double slower = 1 + coefficients[4] * others;
    double m[kInputs][kInputs] = {{w.steps_steps, w.steps_running, w.steps_context, w.steps_prefill},
                                  {w.steps_running, w.running_running, w.running_context, w.running_prefill},
                                  {w.steps_context, w.running_context, w.context_context, w.context_prefill},
                                  {w.steps_prefill, w.running_prefill, w.context_prefill, w.prefill_prefill}};
    double y[kInputs] = {w.steps_seconds, w.running_seconds, w.context_seconds, w.prefill_seconds};
    for (size_t i = 0; i < kInputs; ++i) {
      y[i] = y[i] * weight / kScale[i];
      for (size_t j = 0; j < kInputs; ++j) m[i][j] = m[i][j] * weight / (kScale[i] * kScale[j]);
    }
    const double own[kInputs] = {m[0][0], m[1][1], m[2][2], m[3][3]};
    for (size_t k = 0; k < kInputs; ++k) {
      if (!(m[k][k] > kLeastPivot * own[k])) continue;
      const double root = std::sqrt(m[k][k]);
      double row[kAll] = {}, known = 0;
      for (size_t j = k; j < kInputs; ++j) row[j] = m[k][j] / root;
      const double target = y[k] / root;
      for (size_t i = k + 1; i < kInputs; ++i) {
        y[i] -= row[i] * target;
        for (size_t j = k + 1; j < kInputs; ++j) m[i][j] -= row[i] * row[j];
      }
      // Of a product of two unknowns: linear around the present estimates.
      for (size_t j = k; j < kInputs; ++j) known += row[j] * coefficients[j] * kScale[j];
      for (size_t j = k; j < kInputs; ++j) row[j] *= slower;
      row[4] = others * known;
      update(row, target + row[4] * coefficients[4]);
    }
  }

  // One row of evidence: row . theta = target, within a deviation of 1. In its direction, and in no other, as much of
  // what was known is forgotten as it tells anew, kForget at most.
  void update(const double* row, double target) {
    double gain[kAll], told = 0, off = target;
    for (size_t i = 0; i < kAll; ++i) {
      gain[i] = 0;
      for (size_t j = 0; j < kAll; ++j) gain[i] += spread_of_[i][j] * row[j];
    }
    for (size_t i = 0; i < kAll; ++i) told += row[i] * gain[i], off -= row[i] * free_[i];
    if (!(told > 0) || !std::isfinite(told) || !std::isfinite(off)) return;
    const double more = told - std::min(kForget, told);
    const double shrink = more / ((1 + more) * told);
    for (size_t i = 0; i < kAll; ++i) {
      free_[i] += gain[i] / (1 + more) * off;
      for (size_t j = 0; j <= i; ++j) {
        spread_of_[i][j] = spread_of_[j][i] = spread_of_[i][j] - shrink * gain[i] * gain[j];
      }
    }
  }

  // The likeliest coefficients that are not negative: of all sets that might be 0, the one that costs least.
  void project() {
    double best = -1, found[kAll] = {};
    for (unsigned zeros = 0; zeros < 1u << kAll; ++zeros) {
      size_t at[kAll], size = 0;
      for (size_t i = 0; i < kAll; ++i) {
        if (zeros >> i & 1) at[size++] = i;
      }
      double inverse[kAll][kAll], pull[kAll], cost = 0, tried[kAll];
      if (!inverted(spread_of_, at, size, inverse)) continue;
      for (size_t i = 0; i < size; ++i) {
        pull[i] = 0;
        for (size_t j = 0; j < size; ++j) pull[i] += inverse[i][j] * free_[at[j]];
        cost += pull[i] * free_[at[i]];
      }
      bool possible = true;
      for (size_t i = 0; i < kAll; ++i) {
        tried[i] = free_[i];
        for (size_t j = 0; j < size; ++j) tried[i] -= spread_of_[i][at[j]] * pull[j];
        if (zeros >> i & 1) tried[i] = 0;
        possible = possible && tried[i] >= 0;
      }
      if (!possible || (best >= 0 && cost >= best)) continue;
      best = cost;
      std::copy(tried, tried + kAll, found);
      if (zeros == 0) break;
    }
    for (size_t i = 0; i < kInputs; ++i) coefficients[i] = found[i] / kScale[i];
    coefficients[4] = std::min(found[4], kMostFactor);
  }

  // Of the rows and columns `at` of a symmetric matrix; false where it is not positive definite.
  static bool inverted(const double (&matrix)[kAll][kAll], const size_t* at, size_t size, double (&out)[kAll][kAll]) {
    double work[kAll][kAll];
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) work[i][j] = matrix[at[i]][at[j]], out[i][j] = i == j;
    }
    for (size_t k = 0; k < size; ++k) {
      const double pivot = work[k][k];
      if (!(pivot > 0)) return false;
      for (size_t j = 0; j < size; ++j) work[k][j] /= pivot, out[k][j] /= pivot;
      for (size_t i = 0; i < size; ++i) {
        if (i == k) continue;
        const double times = work[i][k];
        for (size_t j = 0; j < size; ++j) work[i][j] -= times * work[k][j], out[i][j] -= times * out[k][j];
      }
    }
    return true;
  }

  double free_[kAll] = {};             // scaled, and not bounded
  double spread_of_[kAll][kAll] = {};  // their covariance: it never grows, but for a doubt
  double spread_ = 1;                  // typical relative error of a window
  uint64_t doubted_ = 0;
};

}  // namespace headgate
