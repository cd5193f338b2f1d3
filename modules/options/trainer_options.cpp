#include "troupe/modules/options/trainer_options.hpp"

#include "troupe/base/duration_text.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <string_view>
#include <type_traits>

namespace troupe {
namespace {

[[noreturn]] void refuse_option(std::string_view name, const std::string& value, const std::string& advice) {
  throw UsageError("trainer." + std::string(name) + " = " + value + " is not valid; " + advice);
}

void at_least(int64_t lowest, std::string_view name, std::optional<int64_t> value, const std::string& advice = "") {
  if (!value || *value >= lowest) return;
  refuse_option(name, std::to_string(*value), "use at least " + std::to_string(lowest) + advice);
}

void validate_port(const TrainerOptions& options) {
  constexpr int64_t highest = 65535;
  if (!options.metrics_port || (*options.metrics_port >= 0 && *options.metrics_port <= highest)) return;
  refuse_option("metrics_port", std::to_string(*options.metrics_port),
                "use a port of 127.0.0.1 from 1 to 65535, 0 for any that is free, or none");
}

void validate_folders(const TrainerOptions& options) {
  if (options.name == "." || options.name == ".." ||
      options.name.find_first_of(std::string_view("/\0", 2)) != std::string::npos) {
    refuse_option("name", shown(options.name), "it is the name of one folder; a place for it is default_root_dir");
  }
  if (options.default_root_dir.empty()) refuse_option("default_root_dir", "\"\"", "use . for the current folder");
}

void validate_lengths(const TrainerOptions& options) {
  at_least(-1, "max_epochs", options.max_epochs, " (-1: without end)");
  at_least(0, "min_epochs", options.min_epochs);
  at_least(-1, "max_steps", options.max_steps, " (-1: without end)");
  at_least(0, "min_steps", options.min_steps);
  (void)max_time_of(options);
  (void)profile_steps_of(options);
  (void)log_every_of(options);
  at_least(0, "fast_dev_run", options.fast_dev_run, " (0: off)");
}

void validate_intervals(const TrainerOptions& options) {
  at_least(-1, "num_sanity_val_steps", options.num_sanity_val_steps, " (-1: all)");
  at_least(1, "check_val_every_n_epoch", options.check_val_every_n_epoch, ", or none");
  at_least(0, "log_every_n_steps", options.log_every_n_steps, " (0: never)");
  at_least(1, "accumulate_grad_batches", options.accumulate_grad_batches);
  if (options.val_check_interval.is_none()) {
    refuse_option("val_check_interval", options.val_check_interval.to_text(),
                  "use 1 (every batch) or 1.0 (every epoch); limit_val_batches = 0 turns validation off");
  }
  if (!options.check_val_every_n_epoch && options.val_check_interval.is_fraction()) {
    refuse_option("val_check_interval", options.val_check_interval.to_text(),
                  "use a count of batches or a time where check_val_every_n_epoch is none");
  }
}

void more_than_zero(std::string_view name, double value) {
  if (!(value > 0)) refuse_option(name, double_to_text(value), "use more than 0");
}

void validate_compression(const TrainerOptions& options) {
  at_least(1, "powersgd_rank", options.powersgd_rank);
  at_least(0, "powersgd_start_step", options.powersgd_start_step);
  if (options.gradient_compression != GradientCompression::powersgd) return;
  const std::string strategy = name_of(options.strategy);
  std::string problem;
  if (divides_optimizers(options.strategy)) {
    problem = "with strategy = " + strategy + " each rank gets a part of the gradients, of which no matrix can be made";
  } else if (trains_locally(options.strategy)) {
    problem = "with strategy = " + strategy + " no gradients are sent";
  } else if (options.strategy == Strategy::dp) {
    problem = "with strategy = dp the devices of one process add their gradients up";
  }
  if (!problem.empty()) {
    refuse_option("gradient_compression", "powersgd", problem + "; use strategy = ddp, or bf16");
  }
  if (options.precision == Precision::float16_mixed) {
    refuse_option("gradient_compression", "powersgd",
                  "with precision = 16-mixed what is added to the next gradient would have another scale; use "
                  "precision = bf16-mixed, or bf16");
  }
  if (elastic_of(options)) {
    refuse_option("gradient_compression", "powersgd",
                  "with trainer.elastic every process would send its errors to all others, as large as the model; use "
                  "bf16");
  }
}

void validate_local_training(const TrainerOptions& options) {
  at_least(1, "local_steps", options.local_steps);
  more_than_zero("outer_lr", options.outer_lr);
  if (!(options.outer_momentum >= 0 && options.outer_momentum < 1)) {
    refuse_option("outer_momentum", double_to_text(options.outer_momentum), "use 0.0 or more, and less than 1.0");
  }
  if (!trains_locally(options.strategy) || !options.sync_batchnorm) return;
  refuse_option("sync_batchnorm", "true",
                "it exchanges in every batch, which strategy = " + name_of(options.strategy) +
                    " is there to avoid; use strategy = ddp, or false");
}

void validate_distribution(const TrainerOptions& options) {
  constexpr double most_mb = 1 << 20;
  more_than_zero("bucket_cap_mb", options.bucket_cap_mb);
  more_than_zero("first_bucket_mb", options.first_bucket_mb);
  if (options.bucket_cap_mb > most_mb) {
    refuse_option("bucket_cap_mb", double_to_text(options.bucket_cap_mb), "use at most 1048576");
  }
  if (options.first_bucket_mb > most_mb) {
    refuse_option("first_bucket_mb", double_to_text(options.first_bucket_mb), "use at most 1048576");
  }
  more_than_zero("collective_timeout", options.collective_timeout);
  constexpr double year = 365 * 24 * 3600;
  if (options.collective_timeout > year) {
    refuse_option("collective_timeout", double_to_text(options.collective_timeout), "use at most 31536000 (a year)");
  }
  if (options.watchdog_timeout < 0 || options.watchdog_timeout > year) {
    refuse_option("watchdog_timeout", double_to_text(options.watchdog_timeout),
                  "use at most 31536000 (a year), or 0.0 (off)");
  }
  if (options.watchdog_factor != 0 && !(options.watchdog_factor >= 2)) {
    refuse_option("watchdog_factor", double_to_text(options.watchdog_factor), "use at least 2.0, or 0.0 (off)");
  }
  more_than_zero("watchdog_floor", options.watchdog_floor);
  if (options.watchdog_floor > year) {
    refuse_option("watchdog_floor", double_to_text(options.watchdog_floor), "use at most 31536000 (a year)");
  }
  if (options.straggler_ratio != 0 && !(options.straggler_ratio >= 1)) {
    refuse_option("straggler_ratio", double_to_text(options.straggler_ratio), "use at least 1.0, or 0.0 (off)");
  }
  validate_compression(options);
  validate_local_training(options);
  at_least(1, "elastic_every_n_steps", options.elastic_every_n_steps);
  if (elastic_of(options) && options.strategy != Strategy::ddp && options.strategy != Strategy::automatic) {
    refuse_option("strategy", name_of(options.strategy),
                  "with trainer.elastic every process must have the whole state: use ddp");
  }
  const bool divides = divides_batches(options.strategy);
  if (options.sync_batchnorm && (divides || options.uneven_data == UnevenData::join)) {
    refuse_option("sync_batchnorm", "true",
                  divides ? "batches that one process divides among devices have it with strategy = ddp only"
                          : "a rank without a batch cannot take part in it: use uneven_data = stop or cycle");
  }
  if (divides_optimizers(options.strategy) && options.detect_unused_parameters) {
    refuse_option("detect_unused_parameters", "true",
                  "with strategy = " + name_of(options.strategy) +
                      " every parameter gets a gradient; look for unused ones with strategy = ddp");
  }
}

// For an option that does nothing as long as another one is at its default: whoever gives it waits for what never
// comes. What somebody has switched off (logger = false, watchdog_timeout = 0) is off, whatever else is given.
[[noreturn]] void refuse_alone(const std::string& option, const std::string& value, const std::string& partner,
                               const std::string& advice) {
  throw UsageError(option + " = " + value + " does nothing with " + partner + "; " + advice);
}

template <Described Tracker>
void validate_tracker(const std::string& logger, const Tracker& given, const TrainerOptions& options) {
  if (!options.logger || options.loggers != default_loggers()) return;
  const auto values = to_json_object(given), usual = to_json_object(Tracker());
  for (const auto& [name, value] : values.items()) {
    if (value == usual.at(name)) continue;
    const std::string text = value.is_string() ? value.template get<std::string>() : value.dump();
    const std::string without_password = text.substr(text.rfind('@') + 1);
    const std::string loggers = joined(options.loggers, ",");
    refuse_alone(logger + "." + name, shown(without_password), "trainer.loggers = " + loggers,
                 "use " + loggers + "," + logger);
  }
}

// Of digits alone.
std::optional<int64_t> whole_number(std::string_view text) {
  const bool good = !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  return good ? number_from_text<int64_t>(text) : std::nullopt;
}

void validate_partners(const TrainerOptions& options) {
  const TrainerOptions usual;
  const auto partner = [](const std::string& name, const auto& value) {
    return "trainer." + name + " = " + std::string(name_of(value));
  };
  const auto text_of = [](const TrainerOptions& owner, const char* name) {
    return option_to_text(find_option(option_refs(const_cast<TrainerOptions&>(owner)), name));  // read only
  };
  const auto counted = [&](const char* name, const std::string& with, const std::string& advice) {
    const std::string given = text_of(options, name);
    if (given != text_of(usual, name)) refuse_alone(std::string("trainer.") + name, given, with, advice);
  };
  if (!options.profile_steps.empty() && options.profiler != Profiler::operators &&
      options.profiler != Profiler::trace) {
    refuse_alone("trainer.profile_steps", shown(options.profile_steps), partner("profiler", options.profiler),
                 "use trace or operators");
  }
  const std::string capture = partner("capture_step", options.capture_step);
  if (options.capture_step == CaptureStep::off) {
    counted("capture_step_programs", capture, "use auto");
    if (!options.capture_step_dump.empty()) {
      refuse_alone("trainer.capture_step_dump", shown(options.capture_step_dump.string()), capture, "use auto");
    }
  }
  if (options.capture_step != CaptureStep::check) {
    counted("capture_step_check_every", capture, "use check");
  }
  if (options.nonfinite != NonFinite::skip) {
    counted("max_skipped_steps", partner("nonfinite", options.nonfinite), "use skip");
  }
  if (options.gradient_compression != GradientCompression::powersgd) {
    const std::string compression = partner("gradient_compression", options.gradient_compression);
    counted("powersgd_rank", compression, "use powersgd");
    counted("powersgd_start_step", compression, "use powersgd");
    counted("powersgd_error_feedback", compression, "use powersgd");
    counted("powersgd_warm_start", compression, "use powersgd");
  }
  const std::string strategy = partner("strategy", options.strategy);
  if (!trains_locally(options.strategy)) {
    counted("local_steps", strategy, "use local_sgd or diloco");
  }
  if (options.strategy != Strategy::diloco) {
    counted("outer_lr", strategy, "use diloco");
    counted("outer_momentum", strategy, "use diloco");
  }
  if (!options.gradient_clip_val && options.gradient_clip_algorithm != usual.gradient_clip_algorithm) {
    refuse_alone("trainer.gradient_clip_algorithm", std::string(name_of(options.gradient_clip_algorithm)),
                 "trainer.gradient_clip_val = none", "use a bound, as 0.5");
  }
  validate_tracker("mlflow", options.mlflow, options);
  validate_tracker("trackio", options.trackio, options);
}

template <class Pointers>
void no_null(std::string_view name, const Pointers& pointers) {
  const auto null = std::find(pointers.begin(), pointers.end(), nullptr);
  if (null == pointers.end()) return;
  refuse_option(std::string(name) + "[" + std::to_string(null - pointers.begin()) + "]", "null", "leave it out");
}

}  // namespace

void validate(const TrainerOptions& options) {
  check_options(options, "trainer");  // amounts, NaN, text that is not UTF-8
  validate_folders(options);
  validate_port(options);
  at_least(1, "devices", options.devices);
  validate_lengths(options);
  validate_intervals(options);
  if (options.gradient_clip_val && *options.gradient_clip_val < 0) {
    refuse_option("gradient_clip_val", double_to_text(*options.gradient_clip_val), "use at least 0.0, or none");
  }
  validate_distribution(options);
  at_least(1, "max_skipped_steps", options.max_skipped_steps);
  at_least(1, "capture_step_programs", options.capture_step_programs);
  at_least(1, "capture_step_check_every", options.capture_step_check_every);
  if (options.loss_spike_zscore < 0) {
    refuse_option("loss_spike_zscore", double_to_text(options.loss_spike_zscore), "use at least 0.0 (off)");
  }
  at_least(0, "num_threads", options.num_threads, " (0: the worker's part of the processors)");
  validate_partners(options);
  no_null("callbacks", options.callbacks);
  no_null("sinks", options.sinks);
}

TrainerOptions resolved(TrainerOptions options) {
  if (options.fast_dev_run > 0) {
    const Amount batches = options.fast_dev_run;
    options.limit_train_batches = options.limit_val_batches = batches;
    options.limit_test_batches = options.limit_predict_batches = batches;
    options.max_epochs = 1;
    options.max_steps = options.fast_dev_run;
    options.val_check_interval = 1.0;
    options.check_val_every_n_epoch = 1;
    options.num_sanity_val_steps = 0;
    options.enable_checkpointing = false;
    options.logger = false;
    options.sinks.clear();
  }
  if (!options.overfit_batches.is_none()) {
    options.limit_train_batches = options.limit_val_batches = options.overfit_batches;
  }
  if (options.quiet) options.enable_progress_bar = false;
  const bool ends_otherwise = options.max_steps != -1 || !options.max_time.empty();
  if (!options.max_epochs) options.max_epochs = ends_otherwise ? -1 : 1000;
  if (!options.min_epochs) options.min_epochs = options.min_steps ? 1 : 0;
  return options;
}

std::optional<std::chrono::milliseconds> max_time_of(const TrainerOptions& options) {
  if (options.max_time.empty()) return std::nullopt;
  const auto time = duration_from_text(options.max_time);
  if (!time) {
    refuse_option("max_time", shown(options.max_time),
                  "use DD:HH:MM:SS, for example 00:12:00:00 for half a day, or a number with a unit, such as " +
                      nearest_duration(options.max_time) + " (" + std::string(duration_units) + ")");
  }
  return time;
}

std::optional<std::chrono::milliseconds> log_every_of(const TrainerOptions& options) {
  if (options.log_every.empty()) return std::nullopt;
  const auto time = duration_from_text(options.log_every);
  if (!time || time->count() == 0) {
    refuse_option("log_every", shown(options.log_every),
                  "use a time such as " + (time ? "5s" : nearest_duration(options.log_every)) +
                      ", 500ms or 00:01:00; log_every_n_steps takes a number of steps");
  }
  if (options.log_every_n_steps != TrainerOptions().log_every_n_steps) {
    refuse_option("log_every_n_steps", std::to_string(options.log_every_n_steps),
                  "with log_every = " + shown(options.log_every) + " it would not count: give one of the two");
  }
  return time;
}

std::optional<ElasticRange> elastic_of(const TrainerOptions& options) {
  const std::string_view text = options.elastic;
  if (text.empty()) return std::nullopt;
  const auto colon = text.find(':');
  const auto least = whole_number(text.substr(0, colon));
  const auto most = colon == std::string_view::npos ? std::nullopt : whole_number(text.substr(colon + 1));
  if (!least || !most || *least < 1 || *most < 1) {
    refuse_option("elastic", shown(text), "use the fewest and the most processes, as 2:8");
  }
  const ElasticRange range{*least, *most};
  if (range.most < range.least) {
    refuse_option("elastic", shown(text),
                  "the fewest come first: use " + std::to_string(range.most) + ":" + std::to_string(range.least));
  }
  return range;
}

std::optional<BatchRange> profile_steps_of(const TrainerOptions& options) {
  const std::string_view text = options.profile_steps;
  if (text.empty()) return std::nullopt;
  const auto number = [&](std::string_view part) -> int64_t {
    const auto value = whole_number(part);
    if (!value) {
      refuse_option("profile_steps", shown(text),
                    "use two numbers of training batches from 0 on, as 100-120, or one, as 100");
    }
    return *value;
  };
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) return BatchRange{number(text), number(text)};
  const BatchRange range{number(text.substr(0, dash)), number(text.substr(dash + 1))};
  if (range.last < range.first) {
    refuse_option("profile_steps", shown(text),
                  "the first batch is not to come after the last one: use " + std::to_string(range.last) + "-" +
                      std::to_string(range.first));
  }
  return range;
}

}  // namespace troupe
