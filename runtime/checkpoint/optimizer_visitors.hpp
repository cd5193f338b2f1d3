// How the fields of optimizer_fields.hpp go into a checkpoint and come back.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"
#include "troupe/modules/options/choices.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/differences.hpp"

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace troupe {

/// Writes a parameter group's hyper-parameters into a JSON object. A number that is not finite becomes null.
class OptionsWriter {
 public:
  explicit OptionsWriter(nlohmann::json& group) : group_(group) {}
  void number(const char* name, const double& value, double, double) { group_[name] = value; }
  void count(const char* name, const int64_t& value, int64_t) { group_[name] = value; }
  void flag(const char* name, const bool& value) { group_[name] = value; }
  void betas(const double& first, const double& second) { group_["betas"] = {first, second}; }
  void numbers(const char* name, std::initializer_list<const double*> values);
  void optional_count(const char* name, const std::optional<int64_t>& value);
  void optional_choice(const char* name, const std::optional<std::string>& value, const char*);
  template <HasChoices Enum>
  void choice(const char* name, Enum value, Enum null) {
    group_[name] = value == null ? nlohmann::json() : nlohmann::json(name_of(value));
  }

 private:
  nlohmann::json& group_;
};

/// Reads them; `where` ("optimizers[0].groups[1]") is for the UsageError about a value that is missing, of another type
/// or out of its range.
class OptionsReader {
 public:
  OptionsReader(const nlohmann::json& group, std::string where) : group_(group), where_(std::move(where)) {}
  /// A finite number from `least` on and below `limit`.
  void number(const char* name, double& value, double least, double limit);
  void count(const char* name, int64_t& value, int64_t least);
  void flag(const char* name, bool& value);
  void betas(double& first, double& second);
  void numbers(const char* name, std::initializer_list<double*> values);
  void optional_count(const char* name, std::optional<int64_t>& value);
  void optional_choice(const char* name, std::optional<std::string>& value, const char* choice);
  template <HasChoices Enum>
  void choice(const char* name, Enum& value, Enum null) {
    value = static_cast<Enum>(choice_in(name, choices_of<Enum>(), static_cast<int64_t>(null)));
  }

 private:
  int64_t choice_in(const char* name, std::span<const Choice> choices, int64_t null) const;
  const nlohmann::json& at(const char* name) const;
  [[noreturn]] void refuse(const char* name, const std::string& wanted) const;

  const nlohmann::json& group_;
  std::string where_;
};

/// Writes the state of one parameter as tensors called `<prefix><name>`; undefined ones are left out.
class SlotWriter {
 public:
  SlotWriter(Checkpoint& checkpoint, std::string prefix) : checkpoint_(checkpoint), prefix_(std::move(prefix)) {}
  void count(const char* name, const int64_t& value);
  void real(const char* name, const double& value);
  void like_parameter(const char* name, const torch::Tensor& tensor) { put(name, tensor); }
  void optional_like_parameter(const char* name, const torch::Tensor& tensor) { put(name, tensor); }
  void shaped(const char* name, const torch::Tensor& tensor, optim::Shape (*)(const torch::Tensor&)) {
    put(name, tensor);
  }
  void step_number(const char* name, const torch::Tensor& tensor) { put(name, tensor); }
  void host_number(const char* name, const torch::Tensor& tensor) { put(name, tensor); }
  void one_number(const char* name, const torch::Tensor& tensor) { put(name, tensor); }
  void flat(const char* name, const torch::Tensor& tensor) { put(name, tensor); }
  void one_number_list(const char* name, const std::deque<torch::Tensor>& tensors) { flat_list(name, tensors); }
  void flat_list(const char* name, const std::deque<torch::Tensor>& tensors);
  void check(bool, const char*) {}

 private:
  void put(const std::string& name, const torch::Tensor& tensor);

  Checkpoint& checkpoint_;
  std::string prefix_;
};

/// The checkpoint's tensors below `optimizer.<i>.`, taken out as they are asked for; what remains is left over.
using SavedTensors = std::unordered_map<std::string_view, const torch::Tensor*>;

/// Reads them as new tensors beside `parameter`; what does not fit goes into `differences`. `flat_size` is the number
/// of values in all parameters together.
class SlotReader {
 public:
  SlotReader(SavedTensors& saved, std::string prefix, torch::Tensor parameter, int64_t flat_size,
             Differences& differences)
      : saved_(saved),
        prefix_(std::move(prefix)),
        parameter_(std::move(parameter)),
        flat_size_(flat_size),
        differences_(differences) {}
  void count(const char* name, int64_t& value);
  void real(const char* name, double& value);
  void like_parameter(const char* name, torch::Tensor& tensor);
  /// Left undefined if the checkpoint has none.
  void optional_like_parameter(const char* name, torch::Tensor& tensor) {
    if (has(name)) like_parameter(name, tensor);
  }
  const torch::Tensor& parameter() const { return parameter_; }
  void shaped(const char* name, torch::Tensor& tensor, optim::Shape (*shape)(const torch::Tensor&));
  void step_number(const char* name, torch::Tensor& tensor);
  void host_number(const char* name, torch::Tensor& tensor);
  void one_number(const std::string& name, torch::Tensor& tensor);
  void flat(const std::string& name, torch::Tensor& tensor);
  void one_number_list(const char* name, std::deque<torch::Tensor>& tensors);
  void flat_list(const char* name, std::deque<torch::Tensor>& tensors);
  void check(bool holds, const char* problem);

 private:
  bool has(const std::string& name) const { return saved_.contains(prefix_ + name); }
  const torch::Tensor* take(const std::string& name);
  void refuse(const std::string& name, const std::string& problem);

  SavedTensors& saved_;
  std::string prefix_;
  torch::Tensor parameter_;
  int64_t flat_size_;
  Differences& differences_;
};

}  // namespace troupe
