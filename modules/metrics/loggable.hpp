// What log_dict takes under a name.
#pragma once

#include "troupe/modules/metrics/metric.hpp"

#include <torch/types.h>

#include <concepts>
#include <type_traits>
#include <utility>
#include <variant>

namespace troupe {

/// A scalar tensor, a number or a registered metric.
class Loggable {
 public:
  Loggable(torch::Tensor value) : held_(std::move(value)) {}
  template <class Number>
  requires std::is_arithmetic_v<Number> Loggable(Number value) : held_(static_cast<double>(value)) {}
  Loggable(Metric& metric) : held_(&metric) {}
  template <std::derived_from<Metric> M>
  Loggable(const MetricHolder<M>& metric) : held_(&static_cast<Metric&>(*metric)) {}

  const std::variant<torch::Tensor, double, Metric*>& held() const { return held_; }

 private:
  std::variant<torch::Tensor, double, Metric*> held_;
};

}  // namespace troupe
