// What the library's schedulers have in common.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/modules/optim/lr_scheduler.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::lr_schedulers {

using Optimizer = std::shared_ptr<torch::optim::Optimizer>;

/// A scheduler of PyTorch's kind (https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate): a rule that
/// makes a group's next rate out of its last one, or of its first. Making one is its step to epoch 0. "Epoch" is
/// whatever step() is called after.
///
/// The first rate of a group is the one that it had when its optimizer met its first scheduler, as PyTorch's
/// `initial_lr`. Groups may come to the optimizer later: rules that hold a value for each group leave those alone.
class Schedule : public LRScheduler {
 public:
  /// Throws UsageError for a null optimizer.
  Schedule(Optimizer optimizer, const char* name);

  using LRScheduler::step;
  void step() override;

  int64_t last_epoch() const { return last_epoch_; }
  /// The first rate of each group.
  const std::vector<double>& base_lrs() const { return base_lrs_; }

  nlohmann::json state_dict() const override;
  void load_state_dict(const nlohmann::json& state) override;

 protected:
  friend class SequentialLR;

  /// Called at the end of the constructor of the most derived class; sets base_lrs().
  void begin();
  /// Sets the first rates of the optimizer for all schedulers that are made from now on.
  void set_first_rates(const std::vector<double>& rates) const;
  /// The rate of a group at last_epoch(); `lr` is the present one.
  virtual double rate(std::size_t group, double lr) const = 0;
  /// The same from the first rate alone, if the rule has such a form.
  virtual std::optional<double> closed_form(std::size_t group) const {
    (void)group;
    return std::nullopt;
  }
  /// Whether the rule changes groups that came later too: it does not know their first rate.
  virtual bool moves_later_groups() const { return true; }
  /// Moves on to the next epoch; for schedules that count in other ways too.
  virtual void advance() { ++last_epoch_; }
  /// Begins anew at epoch 0, as one of a sequence.
  virtual void restart() { last_epoch_ = 0; }
  /// Takes back what the constructor did, before take_over().
  void undo_begin() { --last_epoch_; }
  /// It is its turn in a sequence: restarts, with rates that do not follow from the present ones where the rule has
  /// such a form.
  void take_over();
  /// Gives each group its first rate.
  void set_rates_to_first();
  /// Members to store besides last_epoch and base_lrs, and back; load checks all before it changes anything.
  virtual void save(nlohmann::json& state) const { (void)state; }
  virtual void load(const StateReader& state) { (void)state; }

  bool is_initial() const { return is_initial_; }
  void set_base_lrs(std::vector<double> rates) { base_lrs_ = std::move(rates); }
  /// Groups that the optimizer had when this was made.
  std::size_t group_count() const { return group_count_; }
  /// One value for all groups, or one each; throws UsageError for another number of them.
  std::vector<double> for_groups(const char* option, const std::vector<double>& values) const;
  [[noreturn]] void refuse(const std::string& why) const;
  void require(bool holds, const std::string& why) const {
    if (!holds) refuse(why);
  }
  void apply();
  void set_rates(const std::vector<double>& rates);

  int64_t last_epoch_ = -1;

 private:
  const char* name_;
  bool is_initial_ = false;
  std::size_t group_count_ = 0;
  std::vector<double> base_lrs_;
};

/// What a StateReader calls a scheduler's state.
inline constexpr const char* what_a_state_is = "the checkpoint's state of a scheduler";

/// Momentum of a group, or the first of Adam's betas, of LibTorch's optimizers and the library's own; nothing if it
/// has none.
std::optional<double> momentum_of(torch::optim::OptimizerParamGroup& group);
void set_momentum(torch::optim::OptimizerParamGroup& group, double momentum);

}  // namespace troupe::lr_schedulers
