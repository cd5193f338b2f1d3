// Weights of another program, or of a former model, for a module whose names may differ.
#pragma once

#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <torch/nn/module.h>
#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Where weights come from: a file, or tensors by name.
class WeightsSource {
 public:
  /// A file of torch.save (.pth, .pt, .ckpt), a safetensors file, or a checkpoint; what it is shows in its content.
  /// Throws UsageError for an empty path.
  WeightsSource(std::filesystem::path path) : path_(given(std::move(path))) {}  // NOLINT(google-explicit-constructor)
  WeightsSource(const std::string& path) : path_(given(path)) {}                // NOLINT(google-explicit-constructor)
  WeightsSource(const char* path) : path_(given(path)) {}                       // NOLINT(google-explicit-constructor)
  WeightsSource(NamedTensors tensors) : tensors_(std::move(tensors)) {}         // NOLINT(google-explicit-constructor)
  WeightsSource(const std::map<std::string, torch::Tensor>& tensors)            // NOLINT(google-explicit-constructor)
      : tensors_(tensors.begin(), tensors.end()) {}

  /// Empty for tensors.
  const std::filesystem::path& path() const { return path_; }
  const NamedTensors& tensors() const { return tensors_; }

 private:
  static std::filesystem::path given(std::filesystem::path path);

  std::filesystem::path path_;
  NamedTensors tensors_;
};

/// Patterns are regular expressions of ECMAScript (std::regex), searched for anywhere in a name: "^" and "$" stand for
/// its ends, and a dot that is meant as one is "\\.".
struct WeightsMapping {
  /// Of a .pth: which dictionary in it holds the weights, "state_dict"; see pth_weights.
  std::string key = {};
  /// Takes only the names that begin with it, and takes it off: "model." of a Lightning checkpoint, "module." of
  /// DistributedDataParallel, "encoder." for one part of a model.
  std::string prefix = {};
  /// Pairs of a pattern and what replaces each place that it matches ("$1" is its first group), one after the other in
  /// the order given, after `prefix`. `{"^", "backbone."}` puts something in front; a name of which nothing is left is
  /// passed over.
  ///
  ///     .rename = {{"^h\\.(\\d+)\\.", "blocks.$1."}, {"ln_f", "norm"}, {"^lm_head\\..*", ""}}
  std::vector<std::pair<std::string, std::string>> rename = {};
  /// Patterns of names, as they are after `rename`, whose matrices are stored transposed: those of GPT-2's Conv1D. Each
  /// must match a name.
  std::vector<std::string> transpose = {};
  /// Every tensor of the module must be in the file and the other way round. False: what is missing keeps its value,
  /// what is left over is passed over, and both are returned; shapes and types must fit all the same.
  bool strict = true;
  /// Convert numbers to the module's types: bfloat16 to float32, float64 to float32. False: other types are mismatches.
  bool convert_dtype = false;
};

/// Copies weights into the module's own tensors, which keep their device, their type and their address:
///
///     load_weights(*model, "resnet.pth", {.rename = {{"downsample", "shortcut"}}, .strict = false});
///
/// A tied tensor (tie_weights) may have one of its names in the file, or several with equal values. Called by the
/// thread that owns the module, before a training begins.
///
/// Throws UsageError, and changes nothing, with the numbers and the first ten of the names that are missing, those that
/// are left over, and the tensors whose shapes or types differ; for patterns that do not compile, by their text; for
/// two tensors that get one name; and for files that cannot be read (read_pth, read_weights).
IncompatibleKeys load_weights(torch::nn::Module& module, const WeightsSource& source,
                              const WeightsMapping& mapping = {});

}  // namespace troupe
