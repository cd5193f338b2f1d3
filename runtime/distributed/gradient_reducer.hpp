// Averages gradients over all workers while the backward pass computes the next ones.
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/runtime/distributed/gradient_averager.hpp"
#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/distributed/power_sgd.hpp"

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace c10d {
class Logger;
class Reducer;
}  // namespace c10d

namespace troupe {

struct ReducerOptions {
  int64_t first_bucket_bytes = 1 << 20;  ///< the first to be reduced, small so that reduction begins early
  int64_t bucket_bytes = 25 << 20;
  /// Look for parameters that a loss does not depend on, which costs a walk through its graph a step.
  bool find_unused_parameters = false;
  GradientCompression compression = GradientCompression::none;
  PowerSgd* power_sgd = nullptr;  ///< with powersgd: what it keeps, which outlives the reducer
};

/// LibTorch's c10d::Reducer, the engine of PyTorch's DistributedDataParallel (Li et al. 2020,
/// https://arxiv.org/abs/2006.15704): buckets that are reduced as soon as their gradients are there, in an order that
/// is learnt in the first step. Gradients become views into the buckets.
class GradientReducer final : public GradientAverager {
 public:
  using Parameters = std::vector<std::pair<std::string, torch::Tensor>>;

  /// Of the parameters that need gradients, in the model's order; all of one device.
  GradientReducer(const Parameters& parameters, Peers& peers, const ReducerOptions& options);
  ~GradientReducer() override;
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  const std::vector<torch::Tensor>& parameters() const { return parameters_; }
  void begin() override;
  /// The backward pass returns when the gradients of all workers are averaged in `grad()`.
  void prepare(const torch::Tensor& loss) override;
  void contribute_nothing() override;

 private:
  std::vector<torch::Tensor> parameters_;
  std::shared_ptr<c10d::Reducer> reducer_;
  std::shared_ptr<c10d::Logger> logger_;
  bool looks_for_unused_;

  void adopt_gradients();
};

}  // namespace troupe
