// What a model consists of: its layers, their parameters and the shapes that pass through them.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

using Shape = std::vector<int64_t>;

struct LayerRow {
  std::string name;         ///< path from the root, "encoder.0"
  std::string type;         ///< "Linear": without namespaces and LibTorch's "Impl"
  int64_t parameters = 0;   ///< elements of the parameters in it; a tied one counts once
  bool training = true;     ///< its mode when the summary was made
  std::optional<Shape> in;  ///< of the first tensor that it takes; nothing if that could not be seen
  std::optional<Shape> out;
};

/// What the callback ModelSummary (runtime/callbacks/model_summary.hpp) prints.
struct ModuleSummary {
  std::vector<LayerRow> rows;
  int64_t total_parameters = 0;      ///< of the whole module; a tied parameter counts once
  int64_t trainable_parameters = 0;  ///< those with requires_grad
  int64_t other_parameters = 0;      ///< those in no row, such as the root's own
  int64_t bytes = 0;                 ///< of all parameters, in their own types
  int64_t modules_in_train_mode = 0;
  int64_t modules_in_eval_mode = 0;
  bool has_shapes = false;  ///< whether a forward pass was watched
};

/// Describes `module` down to `max_depth` levels (1: its children; 0: totals only; -1: all).
///
/// With `run_forward`, which must call the module on an example on this thread, the shapes are filled in: it runs once,
/// in eval mode and without gradients; afterwards every submodule has the mode it had, and the default CPU generator
/// its state. LibTorch's modules have no forward hooks, so the operators are watched instead: a layer's shapes are
/// those of the first operator that its parameters (or buffers) go into. Layers without any (ReLU, Flatten) therefore
/// have none, and a container has the first input and the last output seen among its layers.
///
/// What `run_forward` throws passes through, with modes and generator restored. Call it from the thread that owns the
/// module. Throws UsageError for max_depth < -1.
ModuleSummary summarize(torch::nn::Module& module, const std::function<void()>& run_forward = nullptr,
                        int max_depth = 1);

/// The summary as Lightning prints it, each line ended by '\n':
///
///       | Name | Type   | Params | Mode  | In sizes  | Out sizes
///     ----------------------------------------------------------
///     0 | l1   | Linear | 100 K  | train | [32, 784] | [32, 128]
///     1 | act  | ReLU   | 0      | train | ?         | ?
///     2 | l2   | Linear | 1.2 K  | train | [32, 128] | [32, 10]
///     ----------------------------------------------------------
///     101 K     Trainable params
///     0         Non-trainable params
///     101 K     Total params
///     0.407     Total estimated model params size (MB)
///     3         Modules in train mode
///     0         Modules in eval mode
std::string to_text(const ModuleSummary& summary);

/// 123 -> "123", 1234 -> "1.2 K", 101770 -> "101 K", 2.5e9 -> "2.5 B".
std::string human_count(int64_t count);

}  // namespace troupe
