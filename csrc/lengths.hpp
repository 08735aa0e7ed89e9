// How long answers are expected to be: a lognormal for each answer, told by the head, and a member's level, learnt from
// the answers that it gave. Pure. Tokens; docs/price.md derives what is done here.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cost.hpp"

namespace headgate {

// A head's word out of these bounds, or none, is as unknown.
inline constexpr double kLeastOutput = 1e-2, kMostOutput = 1 << 30, kMostLogSd = 4;

inline constexpr double kFar = 8;  // deviations

inline bool expects(double tokens) {
  return tokens >= kLeastOutput && tokens <= kMostOutput;
}

inline double bounded_log_sd(double log_sd) {
  return log_sd >= 0 ? std::min(log_sd, kMostLogSd) : 0;
}

// P(a standard normal number is above z), and given that, its mean.
inline double above(double z) {
  return std::erfc(z * 0.70710678118654752440) / 2;
}

inline double mean_above(double z) {
  if (z > 8) return z + 1 / z;  // both below underflow
  return std::exp(-z * z / 2) * 0.39894228040143267794 / above(z);
}

// E[min(X, most)] of a lognormal X of this mean, whose logarithm has the deviation `log_sd`.
inline double capped_mean(double mean, double log_sd, double most) {
  if (!(most > 0) || !(log_sd > 0)) return std::min(mean, most);
  const double at = std::log(most / mean) / log_sd, half = log_sd / 2;
  if (at > kFar + half) return mean;  // what is beyond rounds to nothing
  if (at < -kFar - half) return most;
  return mean * above(half - at) + most * above(half + at);
}

// By how much a member's answers are longer than the head says: of the latest, in logarithms.
class LengthLevel {
 public:
  Errors errors;  // of whole answers' predicted medians

  // Added to what the head says, as a share of it.
  double surplus() const { return surplus_; }

  // An answer of `real` tokens came where the head had expected `tokens`. `cut`: it would have been longer.
  void learn(double tokens, double log_sd, double real, bool cut) {
    if (!expects(tokens) || !(real > 0) || !std::isfinite(real)) return;
    const double sd = bounded_log_sd(log_sd), unit = std::max(sd, kLeastSd);
    const double median = std::log(tokens) - sd * sd / 2 + bias_;
    double off = (std::log(real) - median) / unit;
    if (cut) {
      off = mean_above(off);
    } else {
      errors.add(std::exp(median), real);
    }
    const double newest = std::max(kNew, 1 / (kBelief + static_cast<double>(++told_)));
    bias_ += newest * unit * std::min(std::max(off, -kDoubt), kDoubt);
    bias_ = std::min(std::max(bias_, -kMost), kMost);
    surplus_ = std::expm1(bias_);
  }

 private:
  static constexpr double kNew = 0.05;  // weight of the newest answer: about the last twenty count
  static constexpr double kBelief = 4;  // answers' worth of belief in what the head says
  static constexpr double kDoubt = 2;   // deviations beyond which an answer counts as one that is so far off
  static constexpr double kMost = 3;    // of the bias: a factor of 20
  static constexpr double kLeastSd = 0.05;

  double bias_ = 0, surplus_ = 0;
  uint64_t told_ = 0;
};

}  // namespace headgate
