// forward, recorded for each shape of inputs and replayed from then on, by several threads at once.
#pragma once

#include "troupe/modules/captured_steps.hpp"
#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/runtime/capture/program.hpp"
#include "troupe/runtime/capture/recording.hpp"
#include "troupe/runtime/inference/fusion.hpp"

#include <torch/nn/module.h>
#include <torch/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace troupe::inference {

struct ForwardCaptureOptions {
  CaptureStep capture = CaptureStep::automatic;
  bool exact = false;
  std::size_t max_shapes = 8;
  std::size_t max_callers = 1;
};

/// Computes forward of a frozen module on the CPU. The first input of a shape is computed plainly, the next two are
/// recorded, and if both did the same and a program of theirs gives what forward gave, all further ones are replays.
///
/// A program has memory of its own, so one thread at a time runs it. There are `max_callers` lanes, each with a program
/// for each shape; a thread takes the lane that it had last, or the first that is free, without waiting. If none is,
/// it computes plainly. What all lanes share is read without a lock: packed weights do not change.
///
/// Any thread may call.
class ForwardCapture {
 public:
  using Forward = std::function<torch::Tensor(const torch::Tensor& input)>;

  /// `forward` is that of `module`, which outlives it.
  ForwardCapture(const torch::nn::Module& module, Forward forward, const ForwardCaptureOptions& options);
  ~ForwardCapture();
  ForwardCapture(const ForwardCapture&) = delete;
  ForwardCapture& operator=(const ForwardCapture&) = delete;

  /// The result is in memory of its own. Throws what forward throws, and UsageError for a shape that has to be captured
  /// and cannot be, and for a replay that differs (CaptureStep::require and check).
  torch::Tensor compute(const torch::Tensor& input);
  CapturedSteps report() const;

 private:
  struct Recipe;
  struct Replay;
  struct Lane;
  struct Recorded;
  class LaneHold;

  torch::Tensor plain(const torch::Tensor& input) const;
  torch::Tensor learn(Lane& lane, const torch::Tensor& input);
  torch::Tensor run(Lane& lane, Replay& replay, const torch::Tensor& input) const;
  Recipe& recipe_for(const torch::Tensor& input);
  Recorded record(const torch::Tensor& input) const;
  void take_second(Recipe& recipe, Recorded recorded, const torch::Tensor& input, Lane& lane);
  std::unique_ptr<Replay> make_replay(Recipe& recipe, const torch::Tensor& input, bool is_fused);
  bool agrees(const torch::Tensor& replayed, const torch::Tensor& plain, bool is_exact) const;
  void keep(Lane& lane, std::unique_ptr<Replay> replay) const;
  void refuse(Recipe& recipe, const std::string& reason) const;

  const torch::nn::Module& module_;
  const Forward forward_;
  const ForwardCaptureOptions options_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  mutable std::mutex mutex_;  // for all below
  std::vector<std::unique_ptr<Recipe>> recipes_;
  std::vector<std::string> refusals_;
  PackedWeights weights_;
  uint64_t calls_ = 0;
};

}  // namespace troupe::inference
