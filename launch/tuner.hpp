// Finders: a learning rate, a batch size, numbers of threads and fetchers, each found by short trainings that leave
// nothing behind.
//
//     Trainer trainer({.max_epochs = 10});
//     DigitsOptions options;
//     const auto data = std::make_shared<DigitsData>(DigitsDataOptions{});
//     Tuner tuner(trainer);
//     tuner.scale_batch_size<Digits>(options, data);  // sets batch_size of the data's options
//     tuner.lr_find<Digits>(options, data);           // sets options.lr
//     trainer.fit<Digits>(options, {}, {}, {.datamodule = data});
//
// Names and meanings are those of Lightning's Tuner
// (https://lightning.ai/docs/pytorch/2.6/api/lightning.pytorch.tuner.tuning.Tuner.html).
//
// A trial is a fit with the Trainer's options, without its callbacks and those of the module, without sinks,
// checkpoints and validation, on a module of its own if the options are given. A module that is there already gets its
// parameters, buffers, gradients, modes and metrics back; members of other kinds that its hooks change are its own. A
// fit after a finder is, to the bit, the fit without it. Hooks of the module and of the data module are called, in each
// trial.
//
// What was measured is a CSV file and a part of the page in the run's folder, which the next stage shares
// (Trainer::run_dir), unless trainer.logger is off.
//
// With several ranks all make the same calls. lr_find averages their losses; the others want one process. Call them
// from the thread of the Trainer, between stages. After a signal they throw TunerInterrupted.
#pragma once

#include "troupe/launch/trainer.hpp"
#include "troupe/launch/tuner_options.hpp"

#include <nlohmann/json.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

struct Finding;

/// A signal has ended a trial; the module and its options are as they were.
class TunerInterrupted : public std::runtime_error {
 public:
  explicit TunerInterrupted(int signal);
  int signal() const { return signal_; }

 private:
  int signal_;
};

/// Options of a described struct by their names, wherever it lies.
struct NamedOptions {
  std::string group;                                       ///< "model": how messages call them
  std::function<nlohmann::json()> read = {};               ///< all, as a JSON object; empty: there are none
  std::function<void(const nlohmann::json&)> change = {};  ///< sets those of a JSON object, leaves the others
};

/// A module to try, made anew or as it is for each trial.
struct TunedModule {
  std::function<ModuleSource()> source;
  NamedOptions options;
};

/// What the trials train on: loaders, a data module, or nothing if the module has the loaders.
struct TunedData {
  TunedData() = default;
  TunedData(DataLoader loader) : loaders(std::move(loader)) {}  // NOLINT(google-explicit-constructor)
  TunedData(DataLoaders train) : loaders(std::move(train)) {}   // NOLINT(google-explicit-constructor)
  template <std::derived_from<DataModule> D>
  TunedData(std::shared_ptr<D> data)  // NOLINT(google-explicit-constructor)
      : datamodule([data]() -> DataModulePtr { return data; }) {
    options.group = "data";
    if constexpr (requires { data->set_options(data->options()); }) {
      options.read = [data] { return to_json_object(data->options()); };
      options.change = [data](const nlohmann::json& json) {
        auto changed = data->options();
        troupe::set_options(changed, json, "data");
        data->set_options(std::move(changed));
      };
    }
  }

  DataLoaders loaders;
  std::function<DataModulePtr()> datamodule;  ///< asked before each trial; empty: there is none
  NamedOptions options;
};

/// The curve of lr_find.
struct LrFindResult {
  std::vector<double> lr;    ///< of each step
  std::vector<double> loss;  ///< smoothed, as the suggestion sees it
  std::vector<double> raw_loss;
  /// Whether the loss diverged before the last rate.
  bool stopped_early = false;
  std::string says;  ///< what came of it, in one sentence

  /// The place at which the smoothed loss falls fastest per unit of the rate, as Lightning 2.6 has it, without the
  /// first `skip_begin` rates and the last `skip_end`. Nothing if fewer than two finite losses are left, or if the loss
  /// falls nowhere.
  std::optional<std::size_t> suggestion_index(int64_t skip_begin = 10, int64_t skip_end = 1) const;
  /// The rate there.
  std::optional<double> suggestion(int64_t skip_begin = 10, int64_t skip_end = 1) const;
};

struct BatchSizeTrial {
  int64_t batch_size = 0;
  bool fits = false;
  double seconds_per_batch = 0;  ///< the median of its steps
};

struct BatchSizeResult {
  int64_t batch_size = 0;  ///< the suggestion
  std::vector<BatchSizeTrial> trials;
  std::string says;  ///< why it is no larger, in one sentence
};

struct MeasuredSetting {
  int64_t value = 0;
  double seconds_per_batch = 0;  ///< median
  double spread = 0;             ///< between the quartiles
};

struct MeasureResult {
  std::vector<MeasuredSetting> settings;
  /// The smallest value that is as fast as the fastest, give or take the larger of their spreads.
  int64_t suggestion = 0;
  std::string says;  ///< what came of it, in one sentence
};

class Tuner {
 public:
  /// The Trainer must outlive it. Throws UsageError with fast_dev_run, which has nothing to measure.
  explicit Tuner(Trainer& trainer);

  /// Trains with a rate that grows from step to step and takes the one at which the loss falls fastest (Smith 2015,
  /// https://arxiv.org/abs/1506.01186). The loss is smoothed as Lightning does it, by an exponential mean with 0.98.
  /// The module's schedulers stand still. Throws UsageError for options that cannot be, for a module without an
  /// optimizer, with several or with manual optimization, if no option is called as attr_name says while update_attr is
  /// set, and if the curve has no suggestion; RunError if a trial fails.
  template <std::derived_from<Module> M>
  requires Described<typename M::Options> LrFindResult lr_find(typename M::Options& options, const TunedData& data = {},
                                                               const LrFindOptions& how = {}) {
    return find_lr(tuned<M>(options), data, how);
  }
  template <ModulePointer P>
  LrFindResult lr_find(P module, const TunedData& data = {}, const LrFindOptions& how = {}) {
    return find_lr(tuned(std::move(module)), data, how);
  }

  /// Tries larger and larger batches until memory is out, the epoch has no more samples, or max_val is reached. The
  /// size is that of the loaders if they are given, which stay as they are; else the option batch_arg_name of the data
  /// module (a DataModuleWith) or of the module, which gets the size that was found. Throws UsageError for options that
  /// cannot be, if there is no such option, and if not even one sample fits.
  template <std::derived_from<Module> M>
  requires Described<typename M::Options> BatchSizeResult scale_batch_size(typename M::Options& options,
                                                                           const TunedData& data = {},
                                                                           const ScaleBatchSizeOptions& how = {}) {
    return find_batch_size(tuned<M>(options), data, how);
  }
  template <ModulePointer P>
  BatchSizeResult scale_batch_size(P module, const TunedData& data = {}, const ScaleBatchSizeOptions& how = {}) {
    return find_batch_size(tuned(std::move(module)), data, how);
  }

  /// Times batches with 1, 2, 4 ... threads for each operation (trainer.num_threads), up to the worker's part of the
  /// processors. Nothing is set.
  template <std::derived_from<Module> M>
  requires Described<typename M::Options> MeasureResult measure_threads(typename M::Options& options,
                                                                        const TunedData& data = {},
                                                                        const MeasureOptions& how = {}) {
    return time_threads(tuned<M>(options), data, how);
  }
  template <ModulePointer P>
  MeasureResult measure_threads(P module, const TunedData& data = {}, const MeasureOptions& how = {}) {
    return time_threads(tuned(std::move(module)), data, how);
  }

  /// Times batches with 0, 1, 2, 4 ... fetchers (num_workers of the loaders), up to the processors that there are;
  /// where the number lies is as for the batch size. Nothing is set.
  template <std::derived_from<Module> M>
  requires Described<typename M::Options> MeasureResult measure_fetchers(typename M::Options& options,
                                                                         const TunedData& data = {},
                                                                         const MeasureOptions& how = {}) {
    return time_fetchers(tuned<M>(options), data, how);
  }
  template <ModulePointer P>
  MeasureResult measure_fetchers(P module, const TunedData& data = {}, const MeasureOptions& how = {}) {
    return time_fetchers(tuned(std::move(module)), data, how);
  }

  // The same for a module and data without a static type.

  LrFindResult find_lr(const TunedModule& module, const TunedData& data, const LrFindOptions& how);
  BatchSizeResult find_batch_size(const TunedModule& module, const TunedData& data, const ScaleBatchSizeOptions& how);
  MeasureResult time_threads(const TunedModule& module, const TunedData& data, const MeasureOptions& how);
  MeasureResult time_fetchers(const TunedModule& module, const TunedData& data, const MeasureOptions& how);

 private:
  class Trials;

  template <class M>
  static TunedModule tuned(typename M::Options& options) {
    return {[&options] { return Trainer::source<M>(options); },
            {"model", [&options] { return to_json_object(options); },
             [&options](const nlohmann::json& json) { troupe::set_options(options, json, "model"); }}};
  }
  template <class M>
  static TunedModule tuned(std::shared_ptr<M> module) {
    TunedModule out{[module] { return Trainer::source<M>(module); }, {"model"}};
    if constexpr (requires { module->set_options(module->options()); }) {
      if (!module) return out;
      out.options.read = [module] { return to_json_object(module->options()); };
      out.options.change = [module](const nlohmann::json& json) {
        auto changed = module->options();
        troupe::set_options(changed, json, "model");
        module->set_options(std::move(changed));
      };
    }
    return out;
  }

  void record(const ModuleSource& source, Finding finding);

  Trainer& trainer_;
};

/// The option of `options` that holds the learning rate: `attr_name`, or lr, or learning_rate if that is empty. Throws
/// UsageError that names the nearest.
std::string learning_rate_option(const NamedOptions& options, const std::string& attr_name);
/// Which of the two has the option `name`, the data's first; `role` says what it holds. Throws UsageError that names
/// the nearest.
const NamedOptions& owner_of_option(const std::string& name, const std::string& role, const NamedOptions& data,
                                    const NamedOptions& model);

}  // namespace troupe
