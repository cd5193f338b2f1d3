// What a user writes: the model, its steps, its optimizers, and any of the hooks.
//
//     struct DigitsOptions { double lr = 1e-3; };
//     TROUPE_OPTIONS(DigitsOptions, (lr, "learning rate"))
//
//     class Digits : public troupe::ModuleWith<DigitsOptions> {
//      public:
//       explicit Digits(DigitsOptions options) : ModuleWith(options) {
//         net_ = register_module("net", torch::nn::Linear(784, 10));
//       }
//       torch::Tensor forward(torch::Tensor x) override { return net_(x.flatten(1)); }
//       StepOutput training_step(const Batch& batch, int64_t) override {
//         auto [x, y] = batch.get<2>();
//         auto loss = torch::nn::functional::cross_entropy(forward(x), y);
//         log("train_loss", loss);
//         return loss;
//       }
//       Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = options().lr}); }
//
//      private:
//       torch::nn::Linear net_{nullptr};
//     };
//
// All steps and hooks run on the thread of the worker that owns the module, unless their comment says otherwise. A hook
// that is not overridden is never called (the static type tells which ones are, see modules/hooks.hpp), and its default
// does nothing unless its comment says what. The order is in modules/hook_order.hpp. What a hook throws ends the run
// with a RunError that names the hook.
//
// Names follow Lightning's module guide (https://lightning.ai/docs/pytorch/stable/common/lightning_module.html).
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/data_module.hpp"
#include "troupe/modules/export_options.hpp"
#include "troupe/modules/hooks.hpp"
#include "troupe/modules/log_options.hpp"
#include "troupe/modules/logger.hpp"
#include "troupe/modules/metrics/loggable.hpp"
#include "troupe/modules/metrics/metric.hpp"
#include "troupe/modules/metrics/metric_collection.hpp"
#include "troupe/modules/optim/optimizer_handle.hpp"
#include "troupe/modules/optim/optimizers.hpp"
#include "troupe/modules/options/hyperparameters.hpp"
#include "troupe/modules/options/options.hpp"
#include "troupe/modules/options/trainer_choices.hpp"
#include "troupe/modules/result_queue.hpp"
#include "troupe/modules/run_context.hpp"
#include "troupe/modules/stage.hpp"
#include "troupe/modules/step_output.hpp"
#include "troupe/modules/support/module_modes.hpp"

#include <torch/csrc/jit/api/module.h>
#include <torch/nn/module.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

namespace troupe {

/// What on_train_batch_start wants: train on this batch, or skip it and the rest of the epoch (Lightning's -1).
enum class EpochControl { proceed, skip_rest_of_epoch };

/// A torch::nn::Module, to be used as one. Copying is LibTorch's: layers are shared, see torch::nn::Cloneable.
class Module : public torch::nn::Module, public Hyperparameters {
 public:
  // --- The model -----------------------------------------------------------------------------------------------

  /// The prediction of the model, for inference and for the steps. Throws UsageError unless overridden.
  virtual torch::Tensor forward(torch::Tensor x);
  torch::Tensor operator()(torch::Tensor x) { return forward(std::move(x)); }

  /// The loss of one batch: a scalar, a dictionary with "loss", or nothing to skip the batch.
  virtual StepOutput training_step(const Batch& batch, int64_t batch_idx);
  /// The same for one part of a batch, if truncated_bptt_steps is above 0: `hiddens` holds what the part before
  /// returned under names that begin with "hidden", detached; it is empty for the first part.
  virtual StepOutput training_step(const Batch& part, int64_t batch_idx, const StepOutput& hiddens);
  /// The same if configure_optimizers returns several: each in turn gets the batch (or its own batches, see
  /// OptimizerConfig::frequency), while the parameters of the others need no gradient. The last form is for several
  /// optimizers and truncated_bptt_steps; each optimizer has hiddens of its own.
  virtual StepOutput training_step(const Batch& batch, int64_t batch_idx, int64_t optimizer_idx);
  virtual StepOutput training_step(const Batch& part, int64_t batch_idx, int64_t optimizer_idx,
                                   const StepOutput& hiddens);
  /// Gets what the steps of a batch's parts returned, one for each device that had one (strategies dp and ddp2; else
  /// there is one), and can compute a loss over the whole batch. Default: if there is one, its output; of several, the
  /// tensors of each key joined, and the mean of the losses.
  virtual StepOutput training_step_end(const std::vector<StepOutput>& batch_parts);
  virtual StepOutput validation_step_end(const std::vector<StepOutput>& batch_parts);
  virtual StepOutput test_step_end(const std::vector<StepOutput>& batch_parts);
  /// One batch of validation, in eval mode and without gradients. Override the longer one for several data loaders.
  virtual StepOutput validation_step(const Batch& batch, int64_t batch_idx);
  virtual StepOutput validation_step(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  /// One batch of a test; as validation_step.
  virtual StepOutput test_step(const Batch& batch, int64_t batch_idx);
  virtual StepOutput test_step(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  /// The prediction for one batch; Trainer::predict returns it. Default: forward(batch[0]) under "prediction".
  virtual StepOutput predict_step(const Batch& batch, int64_t batch_idx);
  virtual StepOutput predict_step(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);

  /// The optimizers to train with, and their schedulers. None, the default: nothing is trained, with a warning.
  virtual Optimizers configure_optimizers() { return {}; }
  /// Callbacks of the module's own, added after those of the Trainer. If the Trainer has one of the same type, the
  /// module's replaces it.
  virtual std::vector<std::shared_ptr<Callback>> configure_callbacks() { return {}; }

  // --- Data ----------------------------------------------------------------------------------------------------

  /// Downloads or converts data; on global rank zero only, before everything else. Keep no state here.
  virtual void prepare_data() {}
  /// Loads and splits data, builds layers that depend on it; on every rank, before the loaders and optimizers are made.
  virtual void setup(Stage stage) { (void)stage; }
  /// After the stage, also if it failed.
  virtual void teardown(Stage stage) { (void)stage; }
  /// Loaders of the stages, asked after setup. Loaders given to the Trainer win over a DataModule's, and these over
  /// the module's.
  virtual DataLoaders train_dataloader() { return {}; }
  virtual DataLoaders val_dataloader() { return {}; }
  virtual DataLoaders test_dataloader() { return {}; }
  virtual DataLoaders predict_dataloader() { return {}; }
  /// Change a batch before it is moved to the device, move it, change it there. Default: move all tensors.
  virtual Batch on_before_batch_transfer(Batch batch, int64_t dataloader_idx);
  virtual Batch transfer_batch_to_device(Batch batch, torch::Device device, int64_t dataloader_idx);
  virtual Batch on_after_batch_transfer(Batch batch, int64_t dataloader_idx);

  // --- Fit -----------------------------------------------------------------------------------------------------

  /// At the very beginning and end of fit; teardown follows.
  virtual void on_fit_start() {}
  virtual void on_fit_end() {}
  /// After configure_optimizers, before the sanity check.
  virtual void on_pretrain_routine_start() {}
  virtual void on_pretrain_routine_end() {}
  /// After the sanity check, and after the last epoch.
  virtual void on_train_start() {}
  virtual void on_train_end() {}
  /// Around every epoch: of training, and of validation and test.
  virtual void on_epoch_start() {}
  virtual void on_epoch_end() {}
  virtual void on_train_epoch_start() {}
  /// The outputs of training_step in batch order, detached. They are kept only if this is overridden.
  virtual void training_epoch_end(const EpochOutputs& outputs) { (void)outputs; }
  virtual void on_train_epoch_end() {}

  /// Before anything is done with a training batch, which is still on the host.
  virtual EpochControl on_train_batch_start(const Batch& batch, int64_t batch_idx);
  /// After the optimizer's step; `output` is training_step's, detached.
  virtual void on_train_batch_end(const StepOutput& output, const Batch& batch, int64_t batch_idx);

  /// Before gradients are zeroed, on the first batch of an accumulation window.
  virtual void on_before_zero_grad(torch::optim::Optimizer& optimizer) { (void)optimizer; }
  /// Zeroes gradients. Default: sets them to none.
  virtual void optimizer_zero_grad(int64_t epoch, int64_t batch_idx, torch::optim::Optimizer& optimizer,
                                   int64_t optimizer_idx);
  virtual void on_before_backward(const torch::Tensor& loss) { (void)loss; }
  /// Computes gradients. Default: loss.backward(). With accumulation the loss is already divided by the window's
  /// length; with 16-mixed it has the scaler's scale, which is taken out of the gradients when this returns.
  virtual void backward(const torch::Tensor& loss, torch::optim::Optimizer& optimizer, int64_t optimizer_idx);
  /// Gradients are there, not yet clipped.
  virtual void on_after_backward() {}
  /// On the last batch of an accumulation window, before gradients are clipped and applied.
  virtual void on_before_optimizer_step(torch::optim::Optimizer& optimizer, int64_t optimizer_idx);
  /// Clips gradients. Default: clip_gradients with what the Trainer's options say.
  virtual void configure_gradient_clipping(torch::optim::Optimizer& optimizer, int64_t optimizer_idx,
                                           std::optional<double> gradient_clip_val,
                                           GradientClipAlgorithm gradient_clip_algorithm);
  /// Applies gradients. Default: optimizer.step(closure). An override must pass the closure on: a step that did not
  /// call it does not count (global_step, schedulers).
  virtual void optimizer_step(int64_t epoch, int64_t batch_idx, torch::optim::Optimizer& optimizer,
                              int64_t optimizer_idx, const OptimizerClosure& closure);
  /// Moves a scheduler on, with the value of its metric if it needs one. Default: scheduler.step(*metric), or
  /// scheduler.step().
  virtual void lr_scheduler_step(LRScheduler& scheduler, int64_t optimizer_idx, std::optional<double> metric);

  // --- Evaluation ------------------------------------------------------------------------------------------------

  /// Default: eval mode for every submodule, and back to the mode that each had. If only the first is overridden, the
  /// submodules get those modes back all the same, also if the validation fails; an override of the second decides.
  virtual void on_validation_model_eval() { enter_eval_mode(); }
  virtual void on_validation_model_train() { leave_eval_mode(); }
  virtual void on_validation_start() {}
  virtual void on_validation_end() {}
  virtual void on_validation_epoch_start() {}
  /// The outputs of validation_step in batch order, one list per data loader. Kept only if this is overridden.
  virtual void validation_epoch_end(const EpochOutputs& outputs) { (void)outputs; }
  virtual void on_validation_epoch_end() {}
  virtual void on_validation_batch_start(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  virtual void on_validation_batch_end(const StepOutput& output, const Batch& batch, int64_t batch_idx,
                                       int64_t dataloader_idx);

  /// As their counterparts of validation.
  virtual void on_test_model_eval() { enter_eval_mode(); }
  virtual void on_test_model_train() { leave_eval_mode(); }
  virtual void on_test_start() {}
  virtual void on_test_end() {}
  virtual void on_test_epoch_start() {}
  virtual void test_epoch_end(const EpochOutputs& outputs) { (void)outputs; }
  virtual void on_test_epoch_end() {}
  virtual void on_test_batch_start(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  virtual void on_test_batch_end(const StepOutput& output, const Batch& batch, int64_t batch_idx,
                                 int64_t dataloader_idx);

  /// As on_validation_model_eval; after the prediction every submodule has the mode that it had.
  virtual void on_predict_model_eval() { enter_eval_mode(); }
  virtual void on_predict_start() {}
  virtual void on_predict_end() {}
  virtual void on_predict_epoch_start() {}
  virtual void on_predict_epoch_end() {}
  virtual void on_predict_batch_start(const Batch& batch, int64_t batch_idx, int64_t dataloader_idx);
  virtual void on_predict_batch_end(const StepOutput& output, const Batch& batch, int64_t batch_idx,
                                    int64_t dataloader_idx);

  // --- Around the run ----------------------------------------------------------------------------------------------

  /// The module is on its device and no optimizer exists yet. Tie weights here.
  virtual void on_post_move_to_device() {}
  /// Adds to the metadata of a checkpoint that is being written: `checkpoint["my_key"] = ...`.
  virtual void on_save_checkpoint(nlohmann::json& checkpoint) { (void)checkpoint; }
  /// Gets that metadata back before the weights are loaded. It comes from a file: check it.
  virtual void on_load_checkpoint(const nlohmann::json& checkpoint) { (void)checkpoint; }
  /// Chooses what the progress bar shows, from what the run would show; default: all of it.
  virtual MetricMap get_progress_bar_dict(MetricMap metrics) { return metrics; }
  /// Pass values to the thread that called the Trainer: the worker puts them in when the stage is over, and the
  /// caller's thread takes them out before the Trainer returns.
  virtual void add_to_queue(ResultQueue& queue) { (void)queue; }
  virtual void get_from_queue(ResultQueue& queue) { (void)queue; }
  /// Parts of a batch along time, each with an optimizer step of its own, if truncated_bptt_steps is above 0.
  /// Default: every tensor of two or more dimensions is cut along dimension 1.
  virtual std::vector<Batch> tbptt_split_batch(const Batch& batch, int64_t split_size);
  /// Length of a part in steps of time; 0 is off.
  int64_t truncated_bptt_steps = 0;
  /// With strategy = fsdp: layers of the module whose parameters are whole together, such as the blocks of a
  /// transformer; asked when the optimizers are there. Default: every top-level layer, and of a Sequential or a
  /// ModuleList every layer in it.
  virtual std::vector<std::shared_ptr<torch::nn::Module>> sharding_blocks() const { return {}; }
  /// For a training_step that does different things by the number of its batch, such as a step of the optimizer after
  /// every fourth: a number for each of these things, equal for batches that do the same. With it, captured steps
  /// (docs/captured-step.md) record each kind for itself. Nothing: all batches do the same.
  virtual std::optional<int64_t> capture_kind(int64_t batch_idx) const {
    (void)batch_idx;
    return std::nullopt;
  }

  // --- What a module may use ---------------------------------------------------------------------------------------

  /// Records a metric, a scalar of any type; see LogOptions. Outside of a run it does nothing.
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options = {});
  void log(std::string_view name, double value, const LogOptions& options = {});
  /// The same for a registered metric: on_step logs the value of the batch that it was called with, on_epoch its value
  /// over the epoch, at whose end it is reset. LogOptions::reduce_fx and batch_size have no meaning here.
  void log(std::string_view name, Metric& metric, const LogOptions& options = {});
  /// Each under its name: tensors, numbers and registered metrics.
  void log_dict(const std::vector<std::pair<std::string, Loggable>>& values, const LogOptions& options = {});
  template <std::convertible_to<Loggable> Value>
  void log_dict(const std::vector<std::pair<std::string, Value>>& values, const LogOptions& options = {}) {
    log_dict(std::vector<std::pair<std::string, Loggable>>(values.begin(), values.end()), options);
  }
  /// Makes a metric the module's: it moves to the device with the module, is in checkpoints that are taken in the
  /// middle of an epoch, and is reset when a run begins and after the sanity check. Keep the result as a member, and
  /// register one metric per stage: training and validation would mix in a common one. Throws UsageError for a name
  /// that is empty, is taken or has a dot.
  template <std::derived_from<Metric> M>
  MetricHolder<M> register_metric(std::string name, M metric) {
    auto shared = std::make_shared<M>(std::move(metric));
    keep_metric(std::move(name), shared);
    return MetricHolder<M>(std::move(shared));
  }
  /// The same for each member of a collection, under its name there.
  metrics::MetricCollection register_metrics(metrics::MetricCollection collection) {
    for (const auto& [name, metric] : collection.members()) keep_metric(name, metric);
    return collection;
  }
  /// The registered metrics, in order.
  const NamedMetrics& metrics() const { return metrics_; }
  /// The sinks, for images, histograms and texts, and with their own interfaces.
  Logger logger() const { return Logger(trainer()); }
  /// Prints a line above the progress bar, on global rank zero; outside of a run to stdout.
  void print(const std::string& line) const;
  /// The same for several values, or one of another type, with spaces between them: `print("loss", loss)`.
  template <class... Values>
  void print(const Values&... values) const {
    std::ostringstream line;
    const char* space = "";
    ((line << std::exchange(space, " ") << values), ...);
    print(line.str());
  }

  bool in_run() const { return run_ != nullptr; }
  /// The run that the module takes part in. Throws UsageError outside of one.
  RunContext& trainer() const;
  int64_t current_epoch() const { return run_ ? run_->progress().epoch : 0; }
  int64_t global_step() const { return run_ ? run_->progress().global_step : 0; }
  /// The worker's device; outside of a run that of the first parameter, else the CPU.
  torch::Device device() const;
  /// Rank among all devices of the run, and among those of this host.
  int64_t global_rank() const { return run_ ? run_->global_rank() : 0; }
  int64_t local_rank() const { return run_ ? run_->local_rank() : 0; }
  /// The number of bits in which the run computes: 64, 32 or 16.
  int precision() const { return run_ ? bits_of(run_->precision()) : 32; }
  /// Whether the run uses automatic mixed precision.
  bool use_amp() const { return run_ && is_mixed(run_->precision()); }
  /// Null outside of a run, and if the run has none.
  DataModule* datamodule() const { return run_ ? run_->datamodule() : nullptr; }
  /// Parameters and buffers in MB (10^6 bytes), as a file of them would take.
  double model_size() const;
  /// The tensors of all ranks along a new first dimension; in a run of one rank the tensor as it is.
  torch::Tensor all_gather(const torch::Tensor& tensor) const { return run_ ? run_->all_gather(tensor) : tensor; }
  /// Adds the rows of `value` ([N, ...]) to the tensor `name` in `<run's folder>/<filename>`, a safetensors file that
  /// is written when the evaluation ends; in an evaluation only. A sanity check writes nothing. Ranks other than zero
  /// write `rank_<r>.<filename>`.
  void write_prediction(std::string_view name, const torch::Tensor& value,
                        const std::string& filename = "predictions.safetensors");
  void write_prediction_dict(const std::vector<std::pair<std::string, torch::Tensor>>& values,
                             const std::string& filename = "predictions.safetensors");

  // --- Manual optimization -----------------------------------------------------------------------------------------

  /// False: training_step computes gradients and steps optimizers itself, and may return anything. Set in the
  /// constructor. Then gradient clipping and accumulation are training_step's too, and so are the schedulers.
  ///
  ///     auto opt = optimizer();
  ///     opt.zero_grad();
  ///     manual_backward(loss);
  ///     opt.step();
  bool automatic_optimization = true;
  /// The optimizers of configure_optimizers, in order; or number `index` of them. Throw UsageError outside of a run.
  std::vector<OptimizerHandle> optimizers() const;
  OptimizerHandle optimizer(std::size_t index = 0) const;
  /// `auto [generator, discriminator] = optimizers<2>();` Throws UsageError if there is another number of them.
  template <std::size_t N>
  std::array<OptimizerHandle, N> optimizers() const {
    check_optimizer_count(N);
    return [this]<std::size_t... I>(std::index_sequence<I...>) {
      return std::array<OptimizerHandle, N>{OptimizerHandle(trainer(), I)...};
    }
    (std::make_index_sequence<N>());
  }
  /// Computes gradients, with what the precision needs, and the hooks around it. They are the loss's own afterwards,
  /// with 16-mixed too: clip them, look at them and step with them as often as needed.
  void manual_backward(const torch::Tensor& loss) { trainer().manual_backward(loss); }
  /// The schedulers of configure_optimizers, in order.
  std::vector<std::shared_ptr<LRScheduler>> lr_schedulers() const;
  /// Parameters of the other optimizers need no gradient until untoggle_optimizer; automatic optimization does this
  /// itself.
  void toggle_optimizer(std::size_t optimizer_idx) { trainer().toggle_optimizer(optimizer_idx); }
  void untoggle_optimizer(std::size_t optimizer_idx) { trainer().untoggle_optimizer(optimizer_idx); }

  /// Bounds the gradients of the optimizer's parameters in place: their norm (all together, Pascanu et al. 2013) or the
  /// value of each element. Does nothing without a bound and for 0. Throws UsageError for a negative bound and for NaN.
  void clip_gradients(torch::optim::Optimizer& optimizer, std::optional<double> gradient_clip_val,
                      GradientClipAlgorithm gradient_clip_algorithm = GradientClipAlgorithm::norm);
  /// Excludes all parameters from training and sets eval mode, and back.
  void freeze();
  void unfreeze();

  /// As torch::nn::Module's, but each parameter once, also if it is tied (modules/layers/tie_weights.hpp) and has
  /// several names: an optimizer would step it several times.
  std::vector<torch::Tensor> parameters(bool recurse = true) const;
  /// The same of buffers. A module in a variable of the type torch::nn::Module has LibTorch's: distinct_parameters and
  /// distinct_buffers (modules/support/module_tensors.hpp) are for any.
  std::vector<torch::Tensor> buffers(bool recurse = true) const;
  /// False: a run that starts from a checkpoint takes the weights that fit, and names what is missing and left over in
  /// a warning. Shapes must fit all the same.
  bool strict_loading = true;
  /// True: of the parameters checkpoints have those alone that need gradients, and buffers. Whoever loads one has given
  /// the others their values before, as the constructor of a module with adapters does (add_lora sets it).
  bool save_only_trainable = false;
  /// An input for forward() that shows the shapes in the model summary and that exports trace; undefined: no shapes.
  torch::Tensor example_input_array;

  // --- Export: docs/export.md; the mechanism is in runtime/export/ -----------------------------------------------

  /// Writes the model to `file_path` as PyTorch's exported program, an archive that ends in .pt2
  /// (https://docs.pytorch.org/docs/stable/export.html): for torch.export.load, for AOTInductor, and for
  /// torch::nativert::ModelRunnerHandle, which runs it without Python. forward is traced in eval mode with
  /// `example_inputs` (default: example_input_array), which lie in the archive as sample inputs. Written whole or not
  /// at all, in schema 8.17, which PyTorch 2.11 and later read. The size of the batch may change, see
  /// ExportedProgramOptions. The archive holds all parameters and buffers under their names; buffers that forward
  /// changes go on changing where it runs.
  ///
  /// Throws as to_torchscript, and UsageError that names every operator that the format cannot hold with the module
  /// that it is in: those that only TorchScript has, and those whose result has a size that depends on values; and for
  /// a forward that changes a parameter, or a tensor that is no buffer.
  void to_exported_program(const std::filesystem::path& file_path, torch::TensorList example_inputs = {},
                           const ExportedProgramOptions& options = {});
  /// The model as TorchScript, traced in eval mode with `example_inputs` (default: example_input_array), for Python's
  /// torch.jit.load and LibTorch's torch::jit::load. It shares the module's parameters. With a `file_path` it is also
  /// written there, whole or not at all. The size of the batch may change, see TorchscriptOptions.
  ///
  /// PyTorch 2.11 and later call TorchScript deprecated, and to_exported_program is the successor; to_torchscript stays
  /// as long as LibTorch has TorchScript.
  ///
  /// Throws UsageError without an example, and for a forward that throws, returns an undefined tensor or runs other
  /// operators for another size of a dynamic axis; FileError for a file that cannot be written.
  torch::jit::Module to_torchscript(const std::filesystem::path& file_path = {}, torch::TensorList example_inputs = {},
                                    const TorchscriptOptions& options = {});
  /// Writes the model to `file_path` in ONNX's format (https://onnx.ai), traced in eval mode with `input_sample`
  /// (default: example_input_array), whole or not at all. The size of the batch may change, see OnnxOptions.
  ///
  /// Throws as to_torchscript, and UsageError with all operators that have no mapping to ONNX, each with the modules
  /// and the line of the traced graph.
  void to_onnx(const std::filesystem::path& file_path, torch::TensorList input_sample = {},
               const OnnxOptions& options = {});

  /// Called by whoever runs the module; null when the run is over. Modules in it get the run too, so that log() and the
  /// like work in them; their hooks are not called.
  void attach(RunContext* run);
  /// Called by whoever evaluates the module: notes the mode of every submodule before on_validation_model_eval and its
  /// like; puts the noted ones back; or drops them, if the module has set modes itself. The last two do nothing if
  /// nothing is noted.
  void note_modes();
  void put_back_modes();
  void drop_noted_modes() { modes_ = {}; }

 private:
  void enter_eval_mode();
  void leave_eval_mode();
  void check_optimizer_count(std::size_t wanted) const;
  void refuse_several_optimizers(const char* signature) const;
  void keep_metric(std::string name, std::shared_ptr<Metric> metric);

  RunContext* run_ = nullptr;
  NamedMetrics metrics_;
  ModuleModes modes_;  // during an evaluation: what to go back to
};

/// A module whose options are a described struct (modules/options/options.hpp): they are constructor argument,
/// hyper-parameters, command line and config file at once.
template <Described O>
class ModuleWith : public Module {
 public:
  using Options = O;
  explicit ModuleWith(O options) : options_(std::move(options)) { save_hyperparameters(options_); }
  const O& options() const { return options_; }
  /// Changes the options, and the hyper-parameters with them, outside of a run: what hooks such as configure_optimizers
  /// read. What the constructor has built of the old ones stays.
  void set_options(O options) {
    options_ = std::move(options);
    save_hyperparameters(options_);
  }

 private:
  O options_;
};

/// The hooks that `M` overrides. The evaluation steps have a short and a long form; either counts.
template <std::derived_from<Module> M>
HookSet module_hooks();
/// The same of a module that exists: if its class is derived from `M`, which the type does not tell, all hooks count as
/// overridden.
template <std::derived_from<Module> M>
HookSet module_hooks(const M& module);

}  // namespace troupe

#include "troupe/modules/module_hooks.hpp"
