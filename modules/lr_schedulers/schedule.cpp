#include "troupe/modules/lr_schedulers/schedule.hpp"

#include "troupe/modules/optim/kernel_optimizer.hpp"

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

namespace troupe::lr_schedulers {

namespace {

// What PyTorch keeps in the groups as "initial_lr"; LibTorch's groups have no place for it. `wanted` replaces what is
// there.
std::vector<double> first_rates(const Optimizer& optimizer, const std::vector<double>& wanted = {}) {
  struct Entry {
    std::weak_ptr<torch::optim::Optimizer> optimizer;
    std::vector<double> rates;
  };
  static std::mutex mutex;
  static std::map<const void*, Entry> entries;
  const std::lock_guard lock(mutex);
  std::erase_if(entries, [](const auto& entry) { return entry.second.optimizer.expired(); });
  Entry& entry = entries[optimizer.get()];
  entry.optimizer = optimizer;
  if (!wanted.empty()) entry.rates = wanted;
  for (std::size_t i = entry.rates.size(); i < optimizer->param_groups().size(); ++i) {
    entry.rates.push_back(optimizer->param_groups()[i].options().get_lr());
  }
  return entry.rates;
}

}  // namespace

Schedule::Schedule(Optimizer optimizer, const char* name) : LRScheduler(std::move(optimizer)), name_(name) {
  require(this->optimizer() != nullptr, "the optimizer is null");
  group_count_ = this->optimizer()->param_groups().size();
}

void Schedule::refuse(const std::string& why) const {
  throw UsageError("lr_schedulers::" + std::string(name_) + ": " + why);
}

void Schedule::begin() {
  if (base_lrs_.empty()) base_lrs_ = first_rates(optimizer());
  is_initial_ = true;
  advance();
  apply();
  is_initial_ = false;
}

void Schedule::step() {
  advance();
  apply();
}

void Schedule::apply() {
  auto rates = last_lr();
  const auto count = moves_later_groups() ? rates.size() : std::min(rates.size(), group_count_);
  for (std::size_t group = 0; group < count; ++group) rates[group] = rate(group, rates[group]);
  set_rates(rates);
}

void Schedule::take_over() {
  restart();
  auto rates = last_lr();
  for (std::size_t group = 0; group < std::min(rates.size(), group_count_); ++group) {
    rates[group] = closed_form(group).value_or(rate(group, rates[group]));
  }
  set_rates(rates);
}

void Schedule::set_rates_to_first() {
  set_rates(first_rates(optimizer()));
}

void Schedule::set_first_rates(const std::vector<double>& rates) const {
  first_rates(optimizer(), rates);
}

void Schedule::set_rates(const std::vector<double>& rates) {
  auto& groups = optimizer()->param_groups();
  for (std::size_t i = 0; i < rates.size(); ++i) groups[i].options().set_lr(rates[i]);
}

std::vector<double> Schedule::for_groups(const char* option, const std::vector<double>& values) const {
  if (values.size() == group_count()) return values;
  require(values.size() == 1, std::string(option) + " has " + std::to_string(values.size()) +
                                  " values, the optimizer has " + std::to_string(group_count()) + " groups");
  return std::vector<double>(group_count(), values.front());
}

nlohmann::json Schedule::state_dict() const {
  nlohmann::json state = {{"last_epoch", last_epoch_}, {"base_lrs", base_lrs_}};
  save(state);
  return state;
}

void Schedule::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, what_a_state_is);
  const auto epoch = reader.count("last_epoch", -1);
  auto rates = reader.numbers("base_lrs");
  if (rates.size() != base_lrs_.size()) {
    reader.refuse("base_lrs is not a list of " + std::to_string(base_lrs_.size()) + " numbers");
  }
  load(reader);
  last_epoch_ = epoch;
  base_lrs_ = std::move(rates);
}

namespace {

// Calls `use(momentum, set)`; returns whether the group has one.
template <class Use>
bool with_momentum(torch::optim::OptimizerParamGroup& group, Use use) {
  namespace libtorch = torch::optim;
  auto& options = group.options();
  if (auto* own = dynamic_cast<optim::KernelOptions*>(&options)) {
    double* momentum = own->momentum();
    if (momentum) use(*momentum, [&](double value) { *momentum = value; });
    return momentum != nullptr;
  }
  const auto of_betas = [&](auto* adam) {
    const auto betas = adam->betas();
    use(std::get<0>(betas), [&](double value) { adam->betas(std::make_tuple(value, std::get<1>(betas))); });
    return true;
  };
  const auto of_momentum = [&](auto* sgd) {
    use(sgd->momentum(), [&](double value) { sgd->momentum(value); });
    return true;
  };
  if (auto* adam = dynamic_cast<libtorch::AdamOptions*>(&options)) return of_betas(adam);
  if (auto* adamw = dynamic_cast<libtorch::AdamWOptions*>(&options)) return of_betas(adamw);
  if (auto* sgd = dynamic_cast<libtorch::SGDOptions*>(&options)) return of_momentum(sgd);
  if (auto* rmsprop = dynamic_cast<libtorch::RMSpropOptions*>(&options)) return of_momentum(rmsprop);
  return false;
}

}  // namespace

std::optional<double> momentum_of(torch::optim::OptimizerParamGroup& group) {
  std::optional<double> found;
  with_momentum(group, [&](double momentum, auto) { found = momentum; });
  return found;
}

void set_momentum(torch::optim::OptimizerParamGroup& group, double momentum) {
  with_momentum(group, [&](double, auto set) { set(momentum); });
}

}  // namespace troupe::lr_schedulers
