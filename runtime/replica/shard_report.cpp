#include "troupe/runtime/replica/shard_report.hpp"

#include "troupe/modules/module.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace troupe {

namespace {

// A running combination of the values of shards: of numbers, or of scalars that may lie on a device.
template <class Number>
Number combined(Reduce how, const Number& total, const Number& value, double weight) {
  if constexpr (std::is_same_v<Number, double>) {
    switch (how) {
      case Reduce::mean: return total + value * weight;
      case Reduce::sum: return total + value;
      case Reduce::min: return std::min(total, value);
      case Reduce::max: return std::max(total, value);
    }
    return total;
  } else {
    const auto here = value.to(total.device());
    switch (how) {
      case Reduce::mean: return total.add(here, weight);
      case Reduce::sum: return total.add(here);
      case Reduce::min: return torch::minimum(total, here);
      case Reduce::max: return torch::maximum(total, here);
    }
    return total;
  }
}

}  // namespace

void ShardReport::add(std::string_view name, Value value, const LogOptions& options) {
  const auto repeat = std::ranges::count(logged_, name, &Logged::name);
  logged_.push_back({std::string(name), static_cast<std::size_t>(repeat), std::move(value), options});
}

void ShardReport::log(std::string_view name, const torch::Tensor& value, const LogOptions& options) {
  const bool is_scalar = value.defined() && value.numel() == 1;
  if (is_scalar && value.is_cpu()) return add(name, value.item().toDouble(), options);
  add(name, is_scalar ? value.detach().reshape({}).to(torch::kFloat64) : value, options);
}

void ShardReport::log(std::string_view name, double value, const LogOptions& options) {
  add(name, value, options);
}

void ShardReport::log_metric(std::string_view name, std::size_t metric, const LogOptions& options) {
  add(name, metric, options);
}

// What all shards said under one name, so far.
struct ShardReport::Combined {
  const Logged* first;
  Value total;  // of a mean: times the samples
  double weight;

  bool takes(const Logged& logged) const {
    return first->name == logged.name && first->repeat == logged.repeat && total.index() == logged.value.index();
  }
};

void ShardReport::combine(std::vector<Combined>& all, const Logged& logged, double weight) {
  const Reduce how = logged.options.reduce_fx;
  const auto* tensor = std::get_if<torch::Tensor>(&logged.value);
  const auto* number = std::get_if<double>(&logged.value);
  const auto found = std::ranges::find_if(all, [&](const Combined& each) { return each.takes(logged); });
  if (found == all.end()) {
    Combined fresh{&logged, logged.value, weight};
    if (how == Reduce::mean && tensor) fresh.total = tensor->mul(weight);
    if (how == Reduce::mean && number) fresh.total = *number * weight;
    all.push_back(std::move(fresh));
    return;
  }
  if (tensor) found->total = combined(how, std::get<torch::Tensor>(found->total), *tensor, weight);
  if (number) found->total = combined(how, std::get<double>(found->total), *number, weight);
  found->weight += weight;
}

void ShardReport::tell_combined(RunContext& run, const Module& module, const Combined& each) {
  LogOptions options = each.first->options;
  options.batch_size = std::max<int64_t>(1, static_cast<int64_t>(each.weight));
  const bool is_mean = options.reduce_fx == Reduce::mean;
  const bool weighs_nothing = is_mean && each.weight == 0;
  if (weighs_nothing) options.batch_size.reset();  // the run refuses it, with its words
  const double divisor = is_mean && !weighs_nothing ? each.weight : 1;
  if (const auto* metric = std::get_if<std::size_t>(&each.total)) {
    run.log(each.first->name, *module.metrics().at(*metric).second, each.first->options);
  } else if (const auto* number = std::get_if<double>(&each.total)) {
    run.log(each.first->name, is_mean ? *number / divisor : *number, options);
  } else {
    const auto& tensor = std::get<torch::Tensor>(each.total);
    run.log(each.first->name, is_mean ? tensor.div(divisor) : tensor, options);
  }
}

void ShardReport::tell(RunContext& run, const Module& module, std::span<const ShardReport> shards,
                       std::span<const int64_t> sizes) {
  std::vector<Combined> all;
  for (std::size_t p = 0; p < shards.size(); ++p) {
    for (const auto& logged : shards[p].logged_) {
      // What is no scalar is refused by the run, with its words.
      const auto* tensor = std::get_if<torch::Tensor>(&logged.value);
      if (tensor && !(tensor->defined() && tensor->numel() == 1)) run.log(logged.name, *tensor, logged.options);
      combine(all, logged, static_cast<double>(logged.options.batch_size.value_or(sizes[p])));
    }
  }
  for (const auto& each : all) tell_combined(run, module, each);
  for (const auto& shard : shards) {
    for (const auto& what : shard.said_) what(run);
  }
}

}  // namespace troupe
