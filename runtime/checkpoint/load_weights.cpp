#include "troupe/runtime/checkpoint/load_weights.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/checkpoint/differences.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <ATen/ops/equal.h>
#include <c10/core/ScalarType.h>

#include <optional>
#include <regex>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace troupe {

namespace {

std::regex compiled_pattern(const std::string& pattern, const char* option) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw UsageError(std::string("load_weights: the pattern '") + shown(pattern) + "' of " + option +
                     " is no regular expression: " + error.what());
  }
}

/// A pattern is matched by a function that calls itself for each character (libstdc++).
void check_name_length(const std::string& name) {
  constexpr std::size_t most = 1000;
  if (name.size() <= most) return;
  throw UsageError("load_weights: the name '" + shown(name) + "' has " + std::to_string(name.size()) +
                   " bytes, patterns are matched to 1000");
}

/// A pattern may take longer than std::regex goes on for.
template <class F>
auto matched(const std::string& pattern, F match) {
  try {
    return match();
  } catch (const std::regex_error& error) {
    throw UsageError("load_weights: the pattern '" + shown(pattern) + "' cannot be matched: " + error.what());
  }
}

/// Names of the file as names of the module.
class WeightNames {
 public:
  explicit WeightNames(const WeightsMapping& mapping) : mapping_(mapping) {
    for (const auto& [pattern, replacement] : mapping.rename) rename_.push_back(compiled_pattern(pattern, "rename"));
  }

  /// Nothing for a name that is to be passed over.
  std::optional<std::string> operator()(std::string name) const {
    if (!name.starts_with(mapping_.prefix)) return std::nullopt;
    name.erase(0, mapping_.prefix.size());
    for (std::size_t i = 0; i < rename_.size(); ++i) {
      const auto& [pattern, replacement] = mapping_.rename[i];
      check_name_length(name);
      name = matched(pattern, [&] { return std::regex_replace(name, rename_[i], replacement); });
      if (name.empty()) return std::nullopt;  // "^" of the next one would match it
    }
    if (name.empty()) return std::nullopt;
    return name;
  }

 private:
  const WeightsMapping& mapping_;
  std::vector<std::regex> rename_;
};

bool same_memory(const torch::Tensor& a, const torch::Tensor& b) {
  return a.is_same(b) || (a.is_alias_of(b) && a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
                          a.strides() == b.strides() && a.scalar_type() == b.scalar_type());
}

/// To the bit, for types that LibTorch cannot compare as well.
bool same_values(const torch::Tensor& a, const torch::Tensor& b) {
  if (same_memory(a, b)) return true;
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const auto bytes = [](const torch::Tensor& tensor) {
    return tensor.resolve_conj().resolve_neg().contiguous().reshape({-1}).view(torch::kByte);
  };
  return at::equal(bytes(a), bytes(b));
}

/// The file's weights under the module's names.
AnyWeights renamed_weights(AnyWeights weights, const WeightsMapping& mapping) {
  const WeightNames name_of(mapping);
  AnyWeights out;
  std::unordered_map<std::string, std::string> former;
  for (auto& [name, tensor] : weights.tensors) {
    const auto to = name_of(name);
    if (!to) continue;
    const auto [found, is_new] = former.emplace(*to, name);
    if (!is_new) {
      throw UsageError("load_weights: '" + shown(found->second) + "' and '" + shown(name) + "' both become '" +
                       shown(*to) + "'");
    }
    out.tensors.emplace_back(*to, std::move(tensor));
  }
  for (const auto& [name, why] : weights.unreadable) {
    if (const auto to = name_of(name)) out.unreadable.emplace(*to, why);
  }
  if (!out.tensors.empty() || weights.tensors.empty() || mapping.prefix.empty()) return out;
  throw UsageError("load_weights: no name begins with the prefix '" + shown(mapping.prefix) + "'; the first one is '" +
                   shown(weights.tensors.front().first) + "'");
}

void transpose_weights(NamedTensors& tensors, const std::vector<std::string>& patterns) {
  std::unordered_set<std::string> transposed;  // once, whatever matches it
  for (const auto& pattern : patterns) {
    const auto compiled = compiled_pattern(pattern, "transpose");
    bool is_used = false;
    for (auto& [name, tensor] : tensors) {
      check_name_length(name);
      const auto& text = name;
      if (!matched(pattern, [&] { return std::regex_search(text, compiled); })) continue;
      is_used = true;
      if (!transposed.insert(name).second) continue;
      if (tensor.dim() != 2) {
        throw UsageError("load_weights: '" + shown(name) + "', which the pattern '" + shown(pattern) +
                         "' of transpose matches, has the shape [" + joined(tensor.sizes()) + "], and is no matrix");
      }
      tensor = tensor.t();
    }
    if (!is_used) throw UsageError("load_weights: no name matches the pattern '" + shown(pattern) + "' of transpose");
  }
}

/// What there is to copy, and what does not fit.
class WeightsMatch {
 public:
  WeightsMatch(const torch::nn::Module& module, const AnyWeights& weights, const WeightsMapping& mapping)
      : mapping_(mapping), weights_(weights) {
    for (const auto& [name, tensor] : weights.tensors) saved_.emplace(name, &tensor);
    for (const auto& each : distinct_parameters(module)) match(each);
    for (const auto& each : distinct_buffers(module)) match(each);
    for (const auto& [name, tensor] : weights.tensors) {
      if (!used_.contains(name)) keys_.unexpected_keys.push_back(name);
    }
    for (const auto& [name, why] : weights.unreadable) {
      if (!used_.contains(name)) keys_.unexpected_keys.push_back(name);
    }
  }

  /// Throws unless what differs may differ.
  void check(const std::string& source) const {
    Differences differences;
    differences.unlike = mismatched_;
    if (mapping_.strict) {
      differences.missing = keys_.missing_keys;
      differences.left_over = keys_.unexpected_keys;
    }
    if (differences.any()) {
      throw UsageError(source + " does not fit the module, which is unchanged: " + differences.describe());
    }
  }

  void copy() const {
    const torch::NoGradGuard no_gradients;
    for (auto [to, from] : copies_) to.copy_(*from);
  }
  IncompatibleKeys take_keys() { return std::move(keys_); }

 private:
  void match(const ModuleTensor& live) {
    const torch::Tensor* from = nullptr;
    std::string from_name;
    bool is_unreadable = false;
    for (const auto& name : live.names) {
      if (const auto found = weights_.unreadable.find(name); found != weights_.unreadable.end()) {
        used_.insert(name);
        is_unreadable = true;
        mismatched_.push_back(shown(name) + " " + found->second);
      }
      const auto found = saved_.find(name);
      if (found == saved_.end()) continue;
      used_.insert(name);
      if (!from) {
        from = found->second;
        from_name = name;
      } else if (!same_values(*from, *found->second)) {
        mismatched_.push_back(shown(from_name) + " and " + shown(name) +
                              " are one tensor here and two that differ in it");
      }
    }
    if (is_unreadable) return;
    if (!from) return keys_.missing_keys.push_back(live.name());
    if (fits(from_name, *from, live.tensor)) copies_.emplace_back(live.tensor, from);
  }

  bool fits(const std::string& name, const torch::Tensor& saved, const torch::Tensor& live) {
    const auto from = saved.scalar_type(), to = live.scalar_type();
    const bool can_convert = from == to || (mapping_.convert_dtype && c10::canCast(from, to));
    if (can_convert && saved.sizes() == live.sizes()) return true;
    auto text = Differences::unlike_text(name, saved, live);
    if (saved.sizes() == live.sizes() && c10::canCast(from, to)) text += " (convert_dtype = true converts it)";
    if (saved.dim() == 2 && saved.t().sizes() == live.sizes()) text += " (see transpose)";
    mismatched_.push_back(std::move(text));
    return false;
  }

  const WeightsMapping& mapping_;
  const AnyWeights& weights_;
  std::unordered_map<std::string_view, const torch::Tensor*> saved_;
  std::unordered_set<std::string> used_;
  IncompatibleKeys keys_;
  std::vector<std::string> mismatched_;
  std::vector<std::pair<torch::Tensor, const torch::Tensor*>> copies_;
};

}  // namespace

std::filesystem::path WeightsSource::given(std::filesystem::path path) {
  if (path.empty()) throw UsageError("load_weights: the path of the weights is empty");
  return path;
}

IncompatibleKeys load_weights(torch::nn::Module& module, const WeightsSource& source, const WeightsMapping& mapping) {
  const bool is_file = !source.path().empty();
  auto weights = renamed_weights(is_file ? read_any_weights(source.path(), mapping.key)
                                         : AnyWeights{.tensors = source.tensors(), .unreadable = {}},
                                 mapping);
  transpose_weights(weights.tensors, mapping.transpose);
  WeightsMatch match(module, weights, mapping);
  match.check(is_file ? source.path().string() : "the map of tensors");
  separate_elements(module);
  match.copy();
  return match.take_keys();
}

}  // namespace troupe
