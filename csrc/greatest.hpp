// E[greatest of several normal variables], any two of them correlated by rho: exact by quadrature, for the value of a
// set whose models are all run (docs/moments.md). Not on the way of a request. Pure.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "normal.hpp"

namespace headgate {

// X_i = mean_i + deviation_i * (sqrt(rho) * Z + sqrt(1 - rho) * E_i), Z and E_i standard normal and independent
// (Dunnett and Sobel, Biometrika 42, 1955): given Z, E[max] = least + integral of 1 - P(all below x).
class Greatest {
 public:
  Greatest(const std::vector<double>& mean, const std::vector<double>& deviation, double rho)
      : mean_(mean), deviation_(deviation), rho_(rho) {}

  double expected() const {
    if (mean_.size() == 1) return mean_[0];
    if (mean_.size() == 2) return two();
    constexpr double step = 0.05, far = 7;
    if (!(rho_ > 0)) return given(0);
    double total = 0, weight = 0;
    for (double z = -far; z <= far; z += step) {
      total += normal::density(z) * given(z);
      weight += normal::density(z);
    }
    return total / weight;
  }

 private:
  const std::vector<double>&mean_, &deviation_;
  double rho_;

  double two() const {
    const double x = deviation_[0], y = deviation_[1];
    return mean_[0] + normal::above(mean_[1] - mean_[0], std::sqrt(std::max(0.0, x * x + y * y - 2 * rho_ * x * y)));
  }

  double given(double z) const {
    constexpr double far = 7;
    const double common = std::sqrt(rho_) * z, own = std::sqrt(1 - rho_);
    double least = -std::numeric_limits<double>::infinity(), most = least;
    for (size_t i = 0; i < mean_.size(); ++i) {
      const double middle = mean_[i] + deviation_[i] * common, reach = far * own * deviation_[i];
      least = std::max(least, middle - reach);
      most = std::max(most, middle + reach);
    }
    if (!(most > least)) return least;
    constexpr int parts = 200;
    const double step = (most - least) / parts;
    double total = 0;
    for (int k = 0; k < parts; ++k) total += 1 - all_below(least + (k + 0.5) * step, common, own);
    return least + total * step;
  }

  double all_below(double x, double common, double own) const {
    double all = 1;
    for (size_t i = 0; i < mean_.size(); ++i) {
      const double middle = mean_[i] + deviation_[i] * common, deviation = own * deviation_[i];
      all *= deviation > 0 ? normal::below((x - middle) / deviation) : (middle <= x ? 1 : 0);
    }
    return all;
  }
};

}  // namespace headgate
