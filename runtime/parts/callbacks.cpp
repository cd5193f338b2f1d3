// The callbacks that `--callbacks` can name, and the loggers of `--logger`.
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/callbacks/backbone_finetuning.hpp"
#include "troupe/modules/callbacks/device_stats_monitor.hpp"
#include "troupe/modules/callbacks/early_stopping.hpp"
#include "troupe/modules/callbacks/gradient_accumulation_scheduler.hpp"
#include "troupe/modules/callbacks/learning_rate_monitor.hpp"
#include "troupe/modules/callbacks/model_checkpoint.hpp"
#include "troupe/modules/callbacks/on_exception_checkpoint.hpp"
#include "troupe/modules/callbacks/throughput_monitor.hpp"
#include "troupe/modules/callbacks/timer.hpp"
#include "troupe/modules/callbacks/weight_averaging.hpp"
#include "troupe/runtime/callbacks/model_summary.hpp"
#include "troupe/runtime/callbacks/prediction_writer.hpp"
#include "troupe/runtime/parts/parts.hpp"

#include <map>

namespace troupe {

TROUPE_OPTIONS(BackboneFinetuningOptions, (backbone, "the submodule to freeze, by its path in the module"),
               (unfreeze_backbone_at_epoch, "it is trained from the beginning of this epoch on"),
               (backbone_initial_ratio_lr, "its first rate: the others' times this"),
               (backbone_initial_lr, "its first rate; none: by backbone_initial_ratio_lr"),
               (should_align, "it follows the others' rate once it has reached that"),
               (train_bn, "train its batch norm while the rest is frozen"))
TROUPE_OPTIONS(EarlyStoppingOptions, (monitor, "the metric to watch"),
               (min_delta, "a change counts as better if it is more than this"),
               (patience, "checks without a better value that end training"), (mode, "which values are better"),
               (strict, "a metric that is never logged ends the run"),
               (check_finite, "stop if the metric is NaN or infinite"),
               (stopping_threshold, "stop at once if the metric is better than this"),
               (divergence_threshold, "stop at once if the metric is worse than this"),
               (check_on_train_epoch_end,
                "check at ends of training epochs, or after validations; none: as the metric comes"))
TROUPE_OPTIONS(LearningRateMonitorOptions, (logging_interval, "when; auto: as each scheduler moves on"),
               (log_momentum, "log the momentum too"))
TROUPE_OPTIONS(ModelCheckpointOptions, (dirpath, "folder of the files; empty: checkpoints in the run's folder"),
               (filename, "template of file names, as {epoch:02d}-{val_loss:.2f}; empty: {epoch}-{step}"),
               (monitor, "the metric that tells the best; empty: val_loss, or the newest is the best"),
               (mode, "which values are better"), (save_top_k, "how many of the best to keep; -1 is all"),
               (save_last, "keep last.safetensors too"), (save_weights_only, "leave out what only a resumed run needs"),
               (every_n_epochs, "save in each n-th epoch; none: in every one"),
               (every_n_train_steps, "save after each n-th optimizer step"),
               (train_time_interval, "save when so much time has passed"),
               (save_on_train_epoch_end, "save at ends of training epochs, or after validations; none: see the guide"),
               (auto_insert_metric_name, "{epoch} in filename becomes epoch=3 and not 3"))
TROUPE_OPTIONS(TimerOptions, (duration, "training longer than this ends; none: it only measures"),
               (interval, "when the time is looked at"))
TROUPE_OPTIONS(WeightAveragingOptions,
               (decay, "weight of the old average in an exponential one; none: all weights count the same"),
               (update_every_n_steps, "average after so many optimizer steps; 0: after every epoch"),
               (update_starting_at_step, "from this global step on"), (update_starting_at_epoch, "from this epoch on"),
               (use_buffers, "average buffers too"))
TROUPE_OPTIONS(PredictionWriterOptions, (output_dir, "folder of the files"),
               (write_interval, "what there is a file per"))

namespace {

// Of callbacks whose constructors take values and no struct.

struct AccumulationOptions {
  std::vector<std::string> scheduling = {};
};
TROUPE_OPTIONS(AccumulationOptions, (scheduling, "batches of a step from an epoch on, as 0:8,4:4,8:1"))

struct OnExceptionOptions {
  std::filesystem::path dirpath = {};
  std::string filename = "on_exception";
};
TROUPE_OPTIONS(OnExceptionOptions, (dirpath, "folder of the file; empty: checkpoints in the run's folder"),
               (filename, "its name, without .safetensors"))

struct ThroughputOptions {
  int64_t window_size = 100;
};
TROUPE_OPTIONS(ThroughputOptions, (window_size, "batches to average over"))

struct SummaryOptions {
  int max_depth = 1;
};
TROUPE_OPTIONS(SummaryOptions, (max_depth, "levels of layers; -1: all"))

std::map<int64_t, int64_t> scheduling_of(const AccumulationOptions& options) {
  std::map<int64_t, int64_t> scheduling;
  for (const auto& text : options.scheduling) {
    const auto colon = text.find(':');
    const auto epoch = number_from_text<int64_t>(std::string_view(text).substr(0, colon));
    const auto batches =
        colon == std::string::npos ? std::nullopt : number_from_text<int64_t>(std::string_view(text).substr(colon + 1));
    if (!epoch || !batches || !scheduling.emplace(*epoch, *batches).second) {
      throw UsageError("scheduling has '" + shown(text) +
                       "'; use an epoch and batches, as in 0:8,4:4, each epoch once");
    }
  }
  return scheduling;
}

void add_callbacks(CallbackRegistry& registry) {
  registry.add<BackboneFinetuningOptions>(
      {"backbone_finetuning", "trains a head first, its backbone later"},
      [](const BackboneFinetuningOptions& o) { return std::make_shared<BackboneFinetuning>(o); });
  registry.add<NoPartOptions>({"device_stats_monitor", "logs memory and processor use"},
                              [](const NoPartOptions&) { return std::make_shared<DeviceStatsMonitor>(); });
  registry.add<EarlyStoppingOptions>({"early_stopping", "ends training when a metric gets no better"},
                                     [](const EarlyStoppingOptions& o) { return std::make_shared<EarlyStopping>(o); },
                                     {.monitor = "val_loss"});
  registry.add<AccumulationOptions>(
      {"gradient_accumulation_scheduler", "changes the gradient accumulation by epoch"},
      [](const AccumulationOptions& o) { return std::make_shared<GradientAccumulationScheduler>(scheduling_of(o)); });
  registry.add<LearningRateMonitorOptions>(
      {"learning_rate_monitor", "logs the learning rates", {"lr_monitor"}},
      [](const LearningRateMonitorOptions& o) { return std::make_shared<LearningRateMonitor>(o); });
  registry.add<ModelCheckpointOptions>(
      {"model_checkpoint", "keeps the best and the last checkpoints"},
      [](const ModelCheckpointOptions& o) { return std::make_shared<ModelCheckpoint>(o); });
  registry.add<OnExceptionOptions>(
      {"on_exception_checkpoint", "saves the state of a run that fails"},
      [](const OnExceptionOptions& o) { return std::make_shared<OnExceptionCheckpoint>(o.dirpath, o.filename); });
  registry.add<ThroughputOptions>(
      {"throughput_monitor", "logs batches and samples per second"},
      [](const ThroughputOptions& o) { return std::make_shared<ThroughputMonitor>(o.window_size); });
  registry.add<TimerOptions>({"timer", "measures a run, and ends it after a time"},
                             [](const TimerOptions& o) { return std::make_shared<Timer>(o); });
  registry.add<WeightAveragingOptions>(
      {"weight_averaging", "a running average of the weights: EMA and SWA"},
      [](const WeightAveragingOptions& o) { return std::make_shared<WeightAveraging>(o); });
  registry.add<SummaryOptions>({"model_summary", "prints the model's layers and sizes"},
                               [](const SummaryOptions& o) { return std::make_shared<ModelSummary>(o.max_depth); });
  registry.add<PredictionWriterOptions>(
      {"prediction_writer", "writes predictions to files"},
      [](const PredictionWriterOptions& o) { return std::make_shared<PredictionWriter>(o); });
}

// Those that come with the library are made when the run has its folder: their names and options are the Trainer's.
void add_loggers(LoggerRegistry& registry) {
  const auto named = [](const char* name) {
    return [name](TrainerOptions& trainer, const NoPartOptions&) { trainer.loggers.emplace_back(name); };
  };
  registry.add<NoPartOptions>({"csv", "metrics.csv in the run's folder"}, named("csv"));
  registry.add<NoPartOptions>({"tensorboard", "event files in the run's folder"}, named("tensorboard"));
  registry.add<NoPartOptions>({"jsonl", "metrics.jsonl in the run's folder"}, named("jsonl"));
  registry.add<TrackioOptions>({"trackio", "Trackio's database"},
                               [](TrainerOptions& trainer, const TrackioOptions& options) {
                                 trainer.loggers.emplace_back("trackio");
                                 trainer.trackio = options;
                               });
  registry.add<MlflowOptions>({"mlflow", "an MLflow server"},
                              [](TrainerOptions& trainer, const MlflowOptions& options) {
                                trainer.loggers.emplace_back("mlflow");
                                trainer.mlflow = options;
                              });
}

}  // namespace

CallbackRegistry& callback_registry() {
  static CallbackRegistry registry("callback");
  static const bool is_filled = (add_callbacks(registry), true);
  (void)is_filled;
  return registry;
}

LoggerRegistry& logger_registry() {
  static LoggerRegistry registry("logger");
  static const bool is_filled = (add_loggers(registry), true);
  (void)is_filled;
  return registry;
}

}  // namespace troupe
