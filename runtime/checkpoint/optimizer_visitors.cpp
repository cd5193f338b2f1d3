#include "troupe/runtime/checkpoint/optimizer_visitors.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace troupe {

namespace {

// Above it a double no longer counts by ones, and adding to it is still far from an overflow.
constexpr int64_t largest_count = int64_t{1} << 53;

}  // namespace

void OptionsWriter::numbers(const char* name, std::initializer_list<const double*> values) {
  auto list = nlohmann::json::array();
  for (const double* value : values) list.push_back(*value);
  group_[name] = std::move(list);
}

void OptionsWriter::optional_count(const char* name, const std::optional<int64_t>& value) {
  group_[name] = value ? nlohmann::json(*value) : nlohmann::json();
}

void OptionsWriter::optional_choice(const char* name, const std::optional<std::string>& value, const char*) {
  group_[name] = value ? nlohmann::json(*value) : nlohmann::json();
}

const nlohmann::json& OptionsReader::at(const char* name) const {
  const auto found = group_.find(name);
  if (found == group_.end()) throw UsageError("the checkpoint's " + where_ + "." + name + " is missing");
  return *found;
}

void OptionsReader::refuse(const char* name, const std::string& wanted) const {
  const auto text = at(name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  throw UsageError("the checkpoint's " + where_ + "." + name + " is " + shown(text) + ", not " + wanted);
}

void OptionsReader::number(const char* name, double& value, double least, double limit) {
  const auto& json = at(name);
  const double number = json.is_number() ? json.get<double>() : NAN;
  if (!std::isfinite(number) || number < least || number >= limit) {
    refuse(name, std::isfinite(least) ? "a finite number from " + double_to_text(least) + " on" : "a finite number");
  }
  value = number;
}

void OptionsReader::count(const char* name, int64_t& value, int64_t least) {
  const auto& json = at(name);
  const double number = json.is_number_integer() ? json.get<double>() : NAN;
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(largest_count))) {
    refuse(name, "a whole number from " + std::to_string(least) + " on");
  }
  value = json.get<int64_t>();
}

void OptionsReader::flag(const char* name, bool& value) {
  if (!at(name).is_boolean()) refuse(name, "true or false");
  value = at(name).get<bool>();
}

void OptionsReader::betas(double& first, double& second) {
  const auto& json = at("betas");
  const auto valid = [](const nlohmann::json& beta) {
    return beta.is_number() && beta.get<double>() >= 0 && beta.get<double>() < 1;
  };
  if (!json.is_array() || json.size() != 2 || !valid(json[0]) || !valid(json[1])) {
    refuse("betas", "two numbers in [0, 1)");
  }
  first = json[0].get<double>();
  second = json[1].get<double>();
}

// The optimizer checks in which range each may lie.
void OptionsReader::numbers(const char* name, std::initializer_list<double*> values) {
  const auto& json = at(name);
  const auto valid = [](const nlohmann::json& value) {
    return value.is_number() && std::isfinite(value.get<double>());
  };
  if (!json.is_array() || json.size() != values.size() || !std::ranges::all_of(json, valid)) {
    refuse(name, std::to_string(values.size()) + " finite numbers");
  }
  std::size_t i = 0;
  for (double* value : values) *value = json[i++].get<double>();
}

void OptionsReader::optional_count(const char* name, std::optional<int64_t>& value) {
  value.reset();
  if (!at(name).is_null()) count(name, value.emplace(), 0);
}

void OptionsReader::optional_choice(const char* name, std::optional<std::string>& value, const char* choice) {
  const auto& json = at(name);
  if (!json.is_null() && json != choice) refuse(name, "null or \"" + std::string(choice) + "\"");
  value.reset();
  if (!json.is_null()) value = choice;
}

int64_t OptionsReader::choice_in(const char* name, std::span<const Choice> choices, int64_t null) const {
  const auto& json = at(name);
  if (json.is_null()) return null;
  for (const auto& choice : choices) {
    if (json == choice.name) return choice.value;
  }
  refuse(name, "null or one of " + listed_names(choices, ", "));
}

void SlotWriter::put(const std::string& name, const torch::Tensor& tensor) {
  if (!tensor.defined()) return;
  // Sparse gradients give sparse momentum; a file holds dense tensors.
  checkpoint_.tensors.emplace_back(prefix_ + name, tensor.layout() == torch::kStrided ? tensor : tensor.to_dense());
}

void SlotWriter::count(const char* name, const int64_t& value) {
  put(name, torch::scalar_tensor(value, torch::kInt64));
}

void SlotWriter::real(const char* name, const double& value) {
  put(name, torch::scalar_tensor(value, torch::kFloat64));
}

void SlotWriter::flat_list(const char* name, const std::deque<torch::Tensor>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) put(name + ("." + std::to_string(i)), tensors[i]);
}

const torch::Tensor* SlotReader::take(const std::string& name) {
  const auto found = saved_.find(prefix_ + name);
  if (found == saved_.end()) {
    differences_.missing.push_back(prefix_ + name);
    return nullptr;
  }
  const auto* tensor = found->second;
  saved_.erase(found);
  return tensor;
}

void SlotReader::refuse(const std::string& name, const std::string& problem) {
  differences_.unlike.push_back(shown(prefix_ + name) + " is not " + problem);
}

void SlotReader::check(bool holds, const char* problem) {
  if (!holds) differences_.unlike.push_back(shown(prefix_) + ": " + problem);
}

void SlotReader::count(const char* name, int64_t& value) {
  const auto* saved = take(name);
  if (!saved) return;
  const bool whole = saved->scalar_type() == torch::kInt64 && saved->dim() == 0;
  const auto number = whole ? saved->item<int64_t>() : -1;
  if (number < 0 || number > largest_count) return refuse(name, "a count");
  value = number;
}

void SlotReader::real(const char* name, double& value) {
  const auto* saved = take(name);
  if (!saved) return;
  if (saved->scalar_type() != torch::kFloat64 || saved->dim() != 0) return refuse(name, "one number of 64 bits");
  value = saved->item<double>();
}

void SlotReader::like_parameter(const char* name, torch::Tensor& tensor) {
  const auto* saved = take(name);
  if (!saved || !differences_.fits(prefix_ + name, *saved, parameter_)) return;
  // The parameter's strides: the kernels run over both in memory order, and round the same way only then.
  tensor = torch::empty_like(parameter_, torch::MemoryFormat::Preserve);
  tensor.copy_(*saved);
}

void SlotReader::shaped(const char* name, torch::Tensor& tensor, optim::Shape (*shape)(const torch::Tensor&)) {
  const auto* saved = take(name);
  if (!saved) return;
  const auto like = torch::empty(shape(parameter_), parameter_.options().requires_grad(false));
  if (differences_.fits(prefix_ + name, *saved, like)) tensor = torch::empty_like(like).copy_(*saved);
}

void SlotReader::host_number(const char* name, torch::Tensor& tensor) {
  const auto* saved = take(name);
  if (!saved) return;
  if (saved->dim() != 0 || !saved->is_floating_point()) return refuse(name, "one number");
  tensor = saved->detach().to(torch::kCPU, saved->scalar_type(), false, /*copy=*/true);
}

void SlotReader::step_number(const char* name, torch::Tensor& tensor) {
  const auto* saved = take(name);
  if (!saved) return;
  const bool single = saved->scalar_type() == torch::kFloat32 && saved->dim() == 0;
  const auto number = single ? saved->item<double>() : -1;
  if (!(number >= 0 && number <= static_cast<double>(largest_count))) return refuse(name, "a count of steps");
  tensor = saved->detach().to(parameter_.device(), saved->scalar_type(), false, /*copy=*/true);
}

void SlotReader::one_number(const std::string& name, torch::Tensor& tensor) {
  const auto* saved = take(name);
  if (!saved) return;
  if (saved->numel() != 1 || saved->is_complex()) return refuse(name, "one number");
  tensor = saved->detach().to(parameter_.device(), saved->scalar_type(), false, /*copy=*/true);
}

void SlotReader::flat(const std::string& name, torch::Tensor& tensor) {
  const auto* saved = take(name);
  if (!saved) return;
  if (saved->dim() != 1 || saved->numel() != flat_size_ || !saved->is_floating_point()) {
    return refuse(name, "a vector of " + std::to_string(flat_size_) + " floating-point numbers");
  }
  tensor = saved->detach().to(parameter_.device(), saved->scalar_type(), false, /*copy=*/true);
}

void SlotReader::one_number_list(const char* name, std::deque<torch::Tensor>& tensors) {
  for (std::string item = std::string(name) + ".0"; has(item);) {
    one_number(item, tensors.emplace_back());
    item = name + ("." + std::to_string(tensors.size()));
  }
}

void SlotReader::flat_list(const char* name, std::deque<torch::Tensor>& tensors) {
  for (std::string item = std::string(name) + ".0"; has(item);) {
    flat(item, tensors.emplace_back());
    item = name + ("." + std::to_string(tensors.size()));
  }
}

}  // namespace troupe
