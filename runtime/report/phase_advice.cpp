#include "troupe/runtime/report/phase_advice.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <typeinfo>

namespace troupe {

namespace {

constexpr double large_share = 1.0 / 3, large_share_of_optimizer = 0.5;
// What is shorter is nobody's concern; in seconds.
constexpr double shortest_stage = 1, long_start = 5;

bool is_of_step(std::string_view name) {
  constexpr std::array names = {"forward", "backward", "optimizer", "transfer", "rest", "other hooks"};
  return std::ranges::find(names, name) != names.end();
}

const PhaseTime* largest_beside_step(const std::vector<PhaseTime>& phases) {
  const PhaseTime* largest = nullptr;
  for (const auto& phase : phases) {
    if (!is_of_step(phase.name) && (!largest || phase.seconds > largest->seconds)) largest = &phase;
  }
  return largest;
}

std::string percent(double part, double whole) {
  return std::to_string(std::lround(100 * part / whole)) + " %";
}

std::string named(const std::string& option, const char* member) {
  return option.empty() ? std::string(member) + " (DataLoaderOptions)" : option;
}

std::string about_data(const AdviceFacts& facts) {
  const std::string num_workers = named(facts.num_workers_option, "num_workers");
  const std::string prefetch = named(facts.prefetch_option, "prefetch") + " from " + std::to_string(facts.prefetch);
  const std::string now = std::to_string(facts.num_workers);
  const std::string less_work = "make whole batches at once (Dataset::get_batch), or do less in transforms";
  if (facts.has_stream) {
    return "a stream is read by one fetcher, whatever " + num_workers + " (now " + now +
           ") is: do less for each sample, or read a Dataset";
  }
  if (facts.processors == 1) {
    return less_work + "; there is one processor, so that raising " + num_workers + " from " + now +
           " helps only if samples wait for a disk or a network";
  }
  if (facts.num_workers == 0) return "raise " + num_workers + " from 0";
  if (facts.num_workers > facts.prefetch) {
    return "raise " + prefetch + " to " + now + " at least: it says how many of the " + now + " fetchers are busy";
  }
  const std::string processors =
      std::to_string(facts.processors) + " processors" + (facts.options.devices > 1 ? " per worker" : "");
  if (facts.num_workers < facts.processors) {
    return "raise " + num_workers + " from " + now + " (there are " + processors + "); " + less_work;
  }
  return less_work + "; " + num_workers + " = " + now + " is enough for " + processors + ", and a greater prefetch" +
         " helps if few batches take long (raise " + prefetch + ")";
}

std::string about_checkpoints(const AdviceFacts& facts) {
  const auto backpressure = facts.options.checkpoint_backpressure;
  std::string text = facts.every_n_train_steps ? "raise every_n_train_steps (ModelCheckpointOptions) from " +
                                                     std::to_string(*facts.every_n_train_steps)
                                               : "write fewer, by every_n_epochs (ModelCheckpointOptions)";
  if (facts.every_n_train_steps && backpressure == CheckpointBackpressure::wait) {
    text += ", or set trainer.checkpoint_backpressure = skip (now wait)";
  }
  return text;
}

std::string about_validation(const PhaseReport& report, const PhaseTime& whole, const AdviceFacts& facts) {
  const auto& parts = report.parts_of_validation;
  const PhaseTime* part = largest_beside_step(parts);
  if (part && part->seconds > whole.seconds / 2) {
    if (part->name == "waiting for data") return "most of it waiting for data: " + about_data(facts);
    return "most of it in " + part->name;
  }
  if (!facts.options.check_val_every_n_epoch || !facts.options.val_check_interval.is_fraction()) {
    return "raise trainer.val_check_interval from " + facts.options.val_check_interval.to_text() +
           ", or lower trainer.limit_val_batches from " + facts.options.limit_val_batches.to_text();
  }
  if (facts.options.val_check_interval.fraction() < 1) {
    return "raise trainer.val_check_interval from " + facts.options.val_check_interval.to_text();
  }
  return "raise trainer.check_val_every_n_epoch from " + std::to_string(*facts.options.check_val_every_n_epoch) +
         ", or lower trainer.limit_val_batches from " + facts.options.limit_val_batches.to_text();
}

std::string about_reduction(const AdviceFacts& facts) {
  const TrainerOptions& options = facts.options;
  if (trains_locally(options.strategy)) {
    return "raise trainer.local_steps from " + std::to_string(options.local_steps);
  }
  if (options.find_unused_parameters) return "set trainer.find_unused_parameters = false (now true), if all are used";
  if (options.gradient_compression == GradientCompression::none) {
    return "set trainer.gradient_compression = bf16 (now none), or try another trainer.bucket_cap_mb than " +
           double_to_text(options.bucket_cap_mb);
  }
  return "raise trainer.accumulate_grad_batches from " + std::to_string(options.accumulate_grad_batches) +
         ", or try another trainer.bucket_cap_mb than " + double_to_text(options.bucket_cap_mb);
}

std::string about_ranks(const PhaseReport& report) {
  const PhaseSpread* slowest = nullptr;
  for (const auto& spread : report.ranks) {
    const bool waits = spread.name == "waiting for other ranks" || spread.name == "reduction";
    if (waits || spread.name == "start-up") continue;
    if (!slowest || spread.slowest - spread.median > slowest->slowest - slowest->median) slowest = &spread;
  }
  if (!slowest) return "one of them is slower (trainer.straggler_ratio names it while the run goes on)";
  return "rank " + std::to_string(slowest->slowest_rank) + " takes longest for " + slowest->name;
}

std::string about_between_epochs(const AdviceFacts& facts) {
  return "make epochs longer: the data loader begins anew in each (" +
         (facts.num_workers_option.empty() ? "num_workers" : facts.num_workers_option) + " = " +
         std::to_string(facts.num_workers) + ")";
}

// What helps against a phase.
std::string remedy(const PhaseReport& report, const PhaseTime& phase, const AdviceFacts& facts) {
  const std::string& name = phase.name;
  if (name == "waiting for data") return about_data(facts);
  if (name == "checkpoint") return about_checkpoints(facts);
  if (name == "logging" && !facts.options.log_every.empty()) {
    return "raise trainer.log_every from " + facts.options.log_every;
  }
  if (name == "logging") {
    return "raise trainer.log_every_n_steps from " + std::to_string(facts.options.log_every_n_steps);
  }
  if (name == "validation") return about_validation(report, phase, facts);
  if (name == "reduction") return about_reduction(facts);
  if (name == "waiting for other ranks") return about_ranks(report);
  if (name == "between epochs") return about_between_epochs(facts);
  if (name == "start-up") return "it comes once, so that a longer run has less of it";
  return "a hook, called " + std::to_string(phase.count) + " times: do less there, or less often";
}

std::string about_optimizer(const PhaseReport& report, const AdviceFacts& facts) {
  const auto found = std::ranges::find(report.phases, "optimizer", &PhaseTime::name);
  if (found == report.phases.end() || found->seconds <= large_share_of_optimizer * report.seconds) return "";
  const std::string share = percent(found->seconds, report.seconds) + " optimizer: ";
  if (facts.has_torch_optimizer) return share + "take it from troupe::optim, which steps with fused kernels";
  return share + "step less often, by trainer.accumulate_grad_batches (now " +
         std::to_string(facts.options.accumulate_grad_batches) + ") or larger batches";
}

// "data.num_workers" if that is how the program's users say it: an option of that name with the loader's value.
std::string option_called(std::string_view member, int64_t value, const nlohmann::json& given) {
  for (const char* group : {"data", "model"}) {
    const auto options = given.find(group);
    if (options == given.end() || !options->is_object()) continue;
    for (const auto& [name, option] : options->items()) {
      if (std::string_view(name).ends_with(member) && option == value) return std::string(group) + "." + name;
    }
  }
  return "";
}

// Of this process, for each of its workers.
int64_t processors_of_a_worker(const TrainerOptions& options) {
  static const auto all = static_cast<int64_t>(usable_processors());
  return std::max<int64_t>(1, all / std::max<int64_t>(1, options.devices));
}

}  // namespace

AdviceFacts advice_facts(const TrainerOptions& options, const DataLoaders& loaders, const Optimizers& optimizers,
                         const nlohmann::json& given) {
  AdviceFacts facts;
  facts.options = options;
  facts.num_workers = std::numeric_limits<int64_t>::max();
  for (const auto& loader : loaders) {
    facts.has_stream |= loader.stream() != nullptr;
    if (loader.options().num_workers >= facts.num_workers) continue;
    facts.num_workers = loader.options().num_workers;
    facts.prefetch = loader.options().prefetch;
  }
  if (loaders.empty()) facts.num_workers = 0;
  facts.num_workers_option = option_called("num_workers", facts.num_workers, given);
  facts.prefetch_option = option_called("prefetch", facts.prefetch, given);
  facts.processors = processors_of_a_worker(options);
  for (const auto& callback : options.callbacks) {
    const auto* checkpoint = dynamic_cast<const ModelCheckpoint*>(callback.get());
    const auto every = checkpoint ? checkpoint->options().every_n_train_steps : std::nullopt;
    if (every) facts.every_n_train_steps = std::min(*every, facts.every_n_train_steps.value_or(*every));
  }
  for (const auto& optimizer : optimizers) {
    const auto& type = typeid(*optimizer);
    facts.has_torch_optimizer |= full_type_name(type).starts_with("torch::");
  }
  return facts;
}

std::string advice_of(const PhaseReport& report, const AdviceFacts& facts) {
  if (report.seconds < shortest_stage) return "";
  const PhaseTime* largest = largest_beside_step(report.phases);
  const bool is_short_start = largest && largest->name == "start-up" && largest->seconds < long_start;
  if (!largest || largest->seconds <= large_share * report.seconds || is_short_start) {
    return about_optimizer(report, facts);
  }
  return percent(largest->seconds, report.seconds) + " " + largest->name + ": " + remedy(report, *largest, facts);
}

}  // namespace troupe
