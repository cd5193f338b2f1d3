#include "troupe/launch/tuner_trials.hpp"

#include "troupe/launch/processes.hpp"
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/device/device.hpp"
#include "troupe/runtime/parts/named_optimizer.hpp"

#include <c10/core/CachingDeviceAllocator.h>
#include <torch/cuda.h>

#include <algorithm>
#include <charconv>
#include <limits>

namespace troupe {

namespace finders {

std::string in_short(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, 3).ptr;
  return {buffer, end};
}

void refuse(const std::string& name, const std::string& value, const std::string& rule) {
  throw UsageError(name + " = " + value + " " + rule);
}

void require_at_least(const char* name, int64_t value, int64_t least) {
  if (value < least) refuse(name, std::to_string(value), "cannot be; use at least " + std::to_string(least));
}

void require_one_process(const char* what) {
  const auto& processes = Processes::get();
  if (processes.is_alone()) return;
  throw UsageError(std::string(what) + " works in one process, and there are " + std::to_string(processes.size()) +
                   ": start it without mpirun; what it finds is for the loader of each rank");
}

double quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const double place = part * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

std::vector<std::string> names_in(const NamedOptions& options) {
  std::vector<std::string> names;
  if (!options.read) return names;
  const auto all = options.read();  // items() refers to it
  for (const auto& [name, value] : all.items()) names.push_back(name);
  return names;
}

TrainerOptions options_of_trial(const TrainerOptions& of, int64_t steps) {
  const TrainerOptions usual;
  TrainerOptions options = of;
  // An optimizer that options name trains the trials as well.
  std::erase_if(options.callbacks,
                [](const auto& each) { return dynamic_cast<const NamedOptimizer*>(each.get()) == nullptr; });
  options.sinks = {};
  options.logger = options.enable_checkpointing = options.enable_progress_bar = options.enable_model_summary = false;
  options.quiet = true;
  options.async_validation = false;
  options.attach = Attach::off;
  options.metrics_port = std::nullopt;
  options.profiler = Profiler::off;
  options.profile_steps = options.log_every = options.max_time = options.elastic = "";
  options.elastic_every_n_steps = usual.elastic_every_n_steps;
  options.capture_step_dump = "";
  options.max_steps = steps;
  options.max_epochs = steps * of.accumulate_grad_batches + 100;  // of a batch each; an end also if there are no steps
  options.min_epochs = options.min_steps = std::nullopt;
  options.limit_val_batches = 0;
  options.num_sanity_val_steps = 0;
  options.val_check_interval = usual.val_check_interval;
  options.check_val_every_n_epoch = std::numeric_limits<int64_t>::max();  // overfit_batches validates too
  options.log_every_n_steps = 0;
  options.slurm_requeue = false;
  // Rates that are too large are what is looked for.
  options.nonfinite = NonFinite::proceed;
  options.max_skipped_steps = usual.max_skipped_steps;
  options.loss_spike_zscore = 0;
  options.detect_anomaly = options.detect_unused_parameters = false;
  if (options.uneven_data == UnevenData::join) options.uneven_data = UnevenData::stop;
  return options;
}

// --- SpeedProbe ---

void SpeedProbe::on_pretrain_routine_start(RunContext& run, Module&) {
  if (!run.optimizers().empty()) return;
  refuse(
      "a finder measures training, and configure_optimizers returned no optimizer: return one, such as"
      " optim::adamw(parameters(), {.lr = options().lr})");
}

void SpeedProbe::on_train_batch_start(RunContext&, Module&, const Batch& batch, int64_t) {
  begun_ = Clock::now();
  largest_ = std::max(largest_, batch.size());
}

void SpeedProbe::on_train_batch_end(RunContext& run, Module&, const StepOutput&, const Batch&, int64_t) {
  if (run.device().is_cuda()) torch::cuda::synchronize(run.device().index());
  const auto now = Clock::now();
  if (batches_++ >= wanted_) return;
  steps_.push_back(std::chrono::duration<double>(now - begun_).count());
  if (batches_ > 1) intervals_.push_back(std::chrono::duration<double>(now - ended_).count());
  ended_ = now;
  if (batches_ == wanted_) run.request_stop("enough batches were measured");
}

// --- ChangedOption ---

ChangedOption::ChangedOption(const NamedOptions* owner, std::string name) : owner_(owner), name_(std::move(name)) {
  if (owner_) before_ = owner_->read().at(name_);
}

ChangedOption::~ChangedOption() {
  if (!is_kept_) put_back();
}

void ChangedOption::set(int64_t value) {
  if (owner_) owner_->change({{name_, value}});
}

void ChangedOption::put_back() {
  if (owner_) owner_->change({{name_, before_}});
}

void ChangedOption::keep(int64_t value) {
  set(value);
  is_kept_ = true;
}

}  // namespace finders

Tuner::Trials::Trials(const Trainer& trainer, const TunedModule& module, const TunedData& data)
    : options_(trainer.options()),
      devices_(choose_devices(options_.accelerator, options_.devices, Processes::get().local_rank())),
      module_(module),
      data_(data) {
  const auto source = module_.source();
  if (!source.make_more) {
    const auto given = source.make();
    if (!given) throw UsageError("the Tuner was given a null module");
    copy_.emplace(given);
  }
  random_.push_back(generator_state());
  for (const auto& device : devices_) {
    if (!device.is_cpu()) random_.push_back(generator_state(device));
  }
}

void Tuner::Trials::run(TrainerOptions options, const std::shared_ptr<finders::Probe>& probe,
                        const DataLoaders& loaders) const {
  std::optional<Failure> failure;
  int signal = 0;
  bool was_interrupted = false;
  try {
    ModuleSource source = module_.source();
    source.overridden.remove(Hook::configure_callbacks);
    options.callbacks.push_back(probe);
    Trainer trial(std::move(options));
    RunArguments arguments;
    if (data_.datamodule) arguments.datamodule = data_.datamodule();
    try {
      trial.run(Stage::fit, std::move(source), loaders, {}, std::move(arguments));
      was_interrupted = trial.was_interrupted();
      signal = trial.interrupting_signal();
    } catch (const RunError& error) {
      failure = error.failure();
    }
  } catch (...) {
    put_back();
    throw;
  }
  put_back();
  if (was_interrupted) throw TunerInterrupted(signal);
  if (failure && !probe->refusal().empty()) throw UsageError(probe->refusal());
  if (failure) throw RunError(*failure);
}

void Tuner::Trials::put_back() const {
  if (copy_) copy_->put_back();
  auto state = random_.begin();
  set_generator_state(*state++);
  for (const auto& device : devices_) {
    if (device.is_cpu()) continue;
    set_generator_state(*state++, device);
    at::getDeviceAllocator(device.type())->emptyCache();
  }
}

}  // namespace troupe
