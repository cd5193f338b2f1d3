// Sees which shapes go into and come out of a module's layers, without hooks in the layers.
#pragma once

#include <ATen/record_function.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe {

/// Watches the operators that a function calls on this thread, through LibTorch's RecordFunction callbacks. An operator
/// belongs to the module whose parameter or buffer it takes together with another tensor; operators inside of it are
/// its own business. Each parameter counts once, so a layer that is called again keeps its first shapes; one that is
/// shared by several modules counts for them in turn.
class ShapeRecorder {
 public:
  struct Use {
    std::vector<int64_t> in;
    std::optional<std::vector<int64_t>> out;  ///< nothing when the operator gave no tensor or threw
  };

  /// Watches the parameters and buffers of `root` and all modules in it.
  explicit ShapeRecorder(const torch::nn::Module& root);

  /// Runs `function` watched. Not reentrant.
  void watch(const std::function<void()>& function);

  /// The first use and the last one, among those of `module` and of all modules in it.
  std::pair<const Use*, const Use*> span_of(const torch::nn::Module& module) const;

 private:
  struct Claim;

  static std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction& function);
  static void on_end(const at::RecordFunction& function, at::ObserverContext* context);

  void add_tensors(const torch::nn::Module& module);
  std::unique_ptr<at::ObserverContext> claim(const at::RecordFunction& function);

  std::unordered_map<const c10::TensorImpl*, std::deque<const torch::nn::Module*>> owners_;
  std::unordered_map<const torch::nn::Module*, std::vector<std::size_t>> uses_of_;
  std::vector<Use> uses_;  ///< in the order of execution
  bool inside_claim_ = false;
};

}  // namespace troupe
