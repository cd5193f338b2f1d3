// What the finders of a Tuner share: trials, which are fits that leave nothing behind, and what looks at them.
#pragma once

#include "troupe/launch/tuner.hpp"
#include "troupe/modules/callback.hpp"
#include "troupe/runtime/checkpoint/module_copy.hpp"

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

namespace finders {

/// A number that somebody is to type: three digits.
std::string in_short(double value);
/// Throws UsageError: "name = value rule".
[[noreturn]] void refuse(const std::string& name, const std::string& value, const std::string& rule);
void require_at_least(const char* name, int64_t value, int64_t least);
/// Throws UsageError if there are several; `what` is what they ask for.
void require_one_process(const char* what);
/// The value at `part` of the way through the sorted ones; 0 if there are none.
double quantile(std::vector<double> values, double part);
std::vector<std::string> names_in(const NamedOptions& options);
/// The Trainer's options for a fit of so many steps that leaves nothing behind. Of its callbacks an optimizer that was
/// named stays (runtime/parts/named_optimizer.hpp).
TrainerOptions options_of_trial(const TrainerOptions& of, int64_t steps);

/// What looks at a trial.
class Probe : public Callback {
 public:
  /// Why the module is none to try, in one sentence; empty: it is.
  const std::string& refusal() const { return refusal_; }

 protected:
  [[noreturn]] void refuse(const std::string& why) {
    refusal_ = why;
    throw UsageError(why);
  }

 private:
  std::string refusal_;
};

/// Times the first `batches` of a trial, asks for its end after them, and looks how large batches are.
class SpeedProbe final : public Probe {
 public:
  explicit SpeedProbe(int64_t batches) : wanted_(batches) {}

  void on_pretrain_routine_start(RunContext& run, Module& module) override;
  void on_train_batch_start(RunContext& run, Module& module, const Batch& batch, int64_t batch_idx) override;
  void on_train_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                          int64_t batch_idx) override;

  int64_t largest_batch() const { return largest_; }
  /// Seconds from the beginning of each batch to its end.
  const std::vector<double>& steps() const { return steps_; }
  /// Seconds from the end of each batch to the next one's, waiting for data included.
  const std::vector<double>& intervals() const { return intervals_; }

 private:
  using Clock = std::chrono::steady_clock;

  int64_t wanted_, batches_ = 0, largest_ = 0;
  Clock::time_point begun_, ended_;
  std::vector<double> steps_, intervals_;
};

/// An option that a finder changes from trial to trial; gets its value back unless the finder keeps another.
class ChangedOption {
 public:
  /// Null: there is none, and nothing happens.
  ChangedOption(const NamedOptions* owner, std::string name);
  ~ChangedOption();
  ChangedOption(const ChangedOption&) = delete;
  ChangedOption& operator=(const ChangedOption&) = delete;

  void set(int64_t value);
  void put_back();
  /// This value stays.
  void keep(int64_t value);

 private:
  const NamedOptions* owner_;
  std::string name_;
  nlohmann::json before_;
  bool is_kept_ = false;
};

}  // namespace finders

/// Runs trials, and puts back what they change: the module's state if it is one for all of them, and random numbers.
class Tuner::Trials {
 public:
  /// Throws UsageError for a module that cannot be copied. Refers to all three.
  Trials(const Trainer& trainer, const TunedModule& module, const TunedData& data);

  const TrainerOptions& options() const { return options_; }
  bool is_on_cpu() const { return devices_.front().is_cpu(); }
  /// A fit whose callbacks are those of `options` and the probe. Throws UsageError for what the probe refuses, RunError
  /// for all else that fails, TunerInterrupted after a signal.
  void run(TrainerOptions options, const std::shared_ptr<finders::Probe>& probe, const DataLoaders& loaders) const;

 private:
  void put_back() const;

  const TrainerOptions& options_;
  const std::vector<torch::Device> devices_;
  const TunedModule& module_;
  const TunedData& data_;
  std::optional<ModuleCopy> copy_;
  std::vector<torch::Tensor> random_;  // of this thread, then of each device
};

}  // namespace troupe
