#include "troupe/modules/lr_schedulers/combined.hpp"

#include "troupe/modules/lr_schedulers/decay.hpp"

#include <algorithm>
#include <functional>

namespace troupe::lr_schedulers {

namespace {

void check(const char* name, const Optimizer& optimizer, const std::vector<std::shared_ptr<Schedule>>& schedulers) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError("lr_schedulers::" + std::string(name) + ": " + why);
  };
  if (schedulers.empty()) refuse("there is no scheduler");
  for (std::size_t i = 0; i < schedulers.size(); ++i) {
    if (!schedulers[i]) refuse("scheduler " + std::to_string(i) + " is null");
    if (schedulers[i]->optimizer() != (optimizer ? optimizer : schedulers[0]->optimizer())) {
      refuse("scheduler " + std::to_string(i) + " is of another optimizer");
    }
  }
}

nlohmann::json states_of(const std::vector<std::shared_ptr<Schedule>>& schedulers) {
  auto states = nlohmann::json::array();
  for (const auto& scheduler : schedulers) states.push_back(scheduler->state_dict());
  return states;
}

// All or none: what was changed before one refuses is put back.
void load_states(const StateReader& state, const std::vector<std::shared_ptr<Schedule>>& schedulers) {
  const auto& states = state.list("schedulers");
  if (states.size() != schedulers.size()) {
    state.refuse("schedulers is not a list of " + std::to_string(schedulers.size()));
  }
  const auto before = states_of(schedulers);
  for (std::size_t i = 0; i < schedulers.size(); ++i) {
    try {
      schedulers[i]->load_state_dict(states[i]);
    } catch (...) {
      for (std::size_t done = 0; done < i; ++done) schedulers[done]->load_state_dict(before[done]);
      throw;
    }
  }
}

}  // namespace

SequentialLR::SequentialLR(Optimizer optimizer, std::vector<std::shared_ptr<Schedule>> schedulers,
                           std::vector<int64_t> milestones)
    : LRScheduler(std::move(optimizer)), schedulers_(std::move(schedulers)), milestones_(std::move(milestones)) {
  check("sequential", this->optimizer(), schedulers_);
  if (milestones_.size() + 1 != schedulers_.size()) {
    throw UsageError("lr_schedulers::sequential: " + std::to_string(milestones_.size()) + " milestones for " +
                     std::to_string(schedulers_.size()) + " schedulers; give one less than schedulers");
  }
  if (!std::ranges::is_sorted(milestones_, std::ranges::less_equal()) ||
      std::ranges::any_of(milestones_, [](int64_t m) { return m < 1; })) {
    throw UsageError("lr_schedulers::sequential: milestones must begin with at least 1 and grow");
  }
  schedulers_.front()->set_rates_to_first();
  for (const auto& scheduler : schedulers_) scheduler->undo_begin();
  schedulers_.front()->begin();
}

void SequentialLR::step() {
  ++last_epoch_;
  const auto passed = std::ranges::upper_bound(milestones_, last_epoch_) - milestones_.begin();
  auto& scheduler = *schedulers_[static_cast<std::size_t>(passed)];
  if (passed == 0 || milestones_[static_cast<std::size_t>(passed) - 1] != last_epoch_) return scheduler.step();
  scheduler.take_over();
}

nlohmann::json SequentialLR::state_dict() const {
  return {{"last_epoch", last_epoch_}, {"schedulers", states_of(schedulers_)}};
}

void SequentialLR::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, what_a_state_is);
  const auto epoch = reader.count("last_epoch");
  load_states(reader, schedulers_);
  last_epoch_ = epoch;
}

ChainedScheduler::ChainedScheduler(std::vector<std::shared_ptr<Schedule>> schedulers)
    : LRScheduler(schedulers.empty() || !schedulers[0] ? nullptr : schedulers[0]->optimizer()),
      schedulers_(std::move(schedulers)) {
  check("chained", optimizer(), schedulers_);
}

void ChainedScheduler::step() {
  for (const auto& scheduler : schedulers_) scheduler->step();
}

nlohmann::json ChainedScheduler::state_dict() const {
  return {{"schedulers", states_of(schedulers_)}};
}

void ChainedScheduler::load_state_dict(const nlohmann::json& state) {
  load_states(StateReader(state, what_a_state_is), schedulers_);
}

std::shared_ptr<SequentialLR> sequential(Optimizer optimizer, std::vector<std::shared_ptr<Schedule>> schedulers,
                                         std::vector<int64_t> milestones) {
  return std::make_shared<SequentialLR>(std::move(optimizer), std::move(schedulers), std::move(milestones));
}

std::shared_ptr<ChainedScheduler> chained(std::vector<std::shared_ptr<Schedule>> schedulers) {
  return std::make_shared<ChainedScheduler>(std::move(schedulers));
}

std::shared_ptr<SequentialLR> linear_warmup(Optimizer optimizer, WarmupOptions options,
                                            std::shared_ptr<Schedule> after) {
  auto warmup = linear_warmup(optimizer, options);
  return sequential(std::move(optimizer), {std::move(warmup), std::move(after)}, {options.warmup_steps});
}

std::shared_ptr<Schedule> linear_warmup(Optimizer optimizer, WarmupOptions options) {
  if (options.warmup_steps < 1) {
    throw UsageError("lr_schedulers::linear_warmup: warmup_steps = " + std::to_string(options.warmup_steps) +
                     "; use at least 1");
  }
  return linear(std::move(optimizer), {.start_factor = options.start_factor, .total_iters = options.warmup_steps});
}

}  // namespace troupe::lr_schedulers
