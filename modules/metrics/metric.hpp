// A number, or a tensor of numbers, that is gathered over the batches of an epoch: an accuracy, an AUROC, a mean.
//
//     class Digits : public troupe::ModuleWith<DigitsOptions> {
//       StepOutput validation_step(const Batch& batch, int64_t) override {
//         auto [x, y] = batch.get<2>();
//         val_acc_.update(forward(x), y);
//         log("val_acc", val_acc_);  // computed over the whole epoch at its end, then reset
//         return {};
//       }
//       MetricHolder<metrics::Accuracy> val_acc_ =
//           register_metric("val_acc", metrics::Accuracy({.task = metrics::Task::multiclass, .num_classes = 10}));
//     };
//
// What it gathers are its states: tensors on the device of the batches, each with how it combines over batches,
// replicas and ranks. Metrics that come with the library are in modules/metrics/ (namespace troupe::metrics) and named,
// preset and defined as in torchmetrics (https://lightning.ai/docs/torchmetrics/stable); docs/metrics.md has the table.
// One of your own derives from TargetMetric (or from Metric, for an update with other arguments), declares its states
// in the constructor and overrides add() and result():
//
//     class ExactMatch : public troupe::TargetMetric {
//      public:
//       ExactMatch() {
//         correct_ = add_state("correct", torch::zeros({}, torch::kLong), Combine::sum);
//         total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
//       }
//
//      protected:
//       void add(const torch::Tensor& preds, const torch::Tensor& target) override {
//         at(correct_) += preds.eq(target).all(1).sum();
//         at(total_) += target.size(0);
//       }
//       torch::Tensor result() const override { return at(correct_).to(torch::kFloat64) / at(total_); }
//
//      private:
//       State correct_, total_;
//     };
//
// A metric belongs to one thread, in a run to the worker's.
#pragma once

#include <torch/types.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

namespace metrics {
class MetricCollection;
}

/// How a state of two batches, or of two replicas, becomes one.
enum class Combine {
  sum,  ///< added; begins at 0
  min,  ///< the smaller, element by element; begins at infinity
  max,  ///< the greater; begins at minus infinity
  cat   ///< joined along the first dimension; begins empty
};

struct MetricState {
  std::string name;
  Combine combine = Combine::sum;
  torch::Tensor value;
};

/// All that a metric has gathered, in the order in which it declares its states.
struct MetricStates {
  int64_t updates = 0;  ///< calls of update() behind it
  std::vector<MetricState> states;
};

/// The states of several replicas of one metric as if one had seen all batches; `replicas` in the order of their ranks,
/// those without an update included. The result holds no memory of theirs. Throws UsageError if they are not of one
/// metric (naming what differs), and for an empty list.
MetricStates merged(const std::vector<MetricStates>& replicas);

class Metric {
 public:
  virtual ~Metric() = default;
  Metric(Metric&&) = default;
  Metric& operator=(Metric&&) = default;

  /// The value over everything since the last reset. Scalars are without dimensions; values that are not counts are
  /// float64. Throws UsageError if there was no update, and for errors that update() leaves to be found here (see
  /// verify).
  torch::Tensor compute() const;
  /// Forgets everything.
  void reset();
  /// Calls of update() (or of the metric itself) since the last reset.
  int64_t update_count() const { return gathered_->updates; }
  /// The value of the latest batch alone, if the metric itself was called with it; else undefined.
  const torch::Tensor& batch_value() const { return batch_value_; }

  /// What has been gathered. The tensors are not copies: they change with the next update.
  MetricStates states() const;
  /// Takes `states` (copied to this metric's device) instead of its own. Throws UsageError if they are another
  /// metric's: other names, kinds, types or shapes.
  void load_states(const MetricStates& states);
  /// Moves the states. update() moves those of a metric without an update by itself.
  void to(torch::Device device);
  torch::Device device() const { return gathered_->device; }

  /// Whether the value is a scalar, and can be logged.
  virtual bool is_scalar() const { return true; }
  /// Something to be told about the values so far, such as left-out NaNs; empty: nothing. May read from the device.
  virtual std::string warning() const { return ""; }
  /// The name of its class, without namespaces.
  std::string class_name() const;
  /// The name that a module has registered it under; empty: none has.
  const std::string& name() const { return name_; }
  /// For Module::register_metric.
  void set_name(std::string name) { name_ = std::move(name); }

 protected:
  /// Stands for a state of this metric.
  class State {
    friend class Metric;
    std::size_t index = 0;
  };

  Metric() : gathered_(std::make_shared<Gathered>()) {}
  /// Declares a state, in the constructor. `initial` is its value without any update and must change nothing that it is
  /// combined with; one without dimensions may become any shape by the first update.
  State add_state(std::string name, torch::Tensor initial, Combine combine);
  /// Declares a state that is joined (Combine::cat). If `type` is a floating one, rows of any floating type will do.
  State add_list(std::string name, torch::ScalarType type);
  torch::Tensor& at(State state) { return gathered_->slots[state.index].value; }
  /// A list is joined for it.
  torch::Tensor at(State state) const;
  /// Adds rows to a list. They are not copied: hand over memory that nobody else writes to.
  void append(State state, torch::Tensor rows);
  /// The same with a copy of the rows. On the CPU it is made in memory that has room for many batches.
  void append_copy(State state, const torch::Tensor& rows);

  /// The value, from the states, without a transfer to the host if possible: it is also the value of one batch.
  virtual torch::Tensor result() const = 0;
  /// What can only be checked by reading from the device, before compute() hands out the result. Throws UsageError.
  virtual void verify() const {}
  /// All that what an update adds depends on, its class included: metrics with one key gather the same, and may share
  /// their states (MetricCollection). Empty: shares with none.
  virtual std::string sharing_key() const { return ""; }

  using Inputs = std::vector<torch::Tensor>;
  /// Adds to the states what an update is given; keeps nothing of it but tensors that it appends to lists.
  using Add = std::function<void(const Inputs& inputs)>;
  /// For update() of a derived class: carries out `add` with `inputs`, all on the first one's device, without
  /// gradients, as one update. A captured step does it again with the tensors of each replay (trainer.capture_step), so
  /// `add` reads what changes from batch to batch from them alone. Throws UsageError if earlier updates were on another
  /// device. What `add` throws leaves the states as it left them, so check the arguments first.
  void gather(const Inputs& inputs, const Add& add);
  /// For operator() of a derived class: the same, and returns the value of that update alone, which batch_value() then
  /// is. What `add` throws leaves everything as it was.
  torch::Tensor gather_batch(const Inputs& inputs, const Add& add);
  /// The same for metrics that share their states, of which this is one: one update of all, and the value of each.
  void gather(const std::vector<Metric*>& sharing, const Inputs& inputs, const Add& add);
  Inputs gather_batch(const std::vector<Metric*>& sharing, const Inputs& inputs, const Add& add);
  /// For an update by a number of the host, of which a captured step has no new one.
  void refuse_number() const;
  /// For an update by text, which a captured step has no new one of either.
  void refuse_text() const;

 private:
  struct Slot {
    std::string name;
    Combine combine = Combine::sum;
    torch::Tensor initial;             // of a list an empty tensor of its type
    torch::Tensor value;               // not of a list
    std::vector<torch::Tensor> parts;  // of a list
    torch::Tensor room;                // behind the parts: memory of which `filled` rows are of the list
    int64_t filled = 0;

    /// The parts with the rows in `room`.
    std::vector<torch::Tensor> all_parts() const;
    /// Makes these rows a part.
    void close();
  };

  void gather_now(const Inputs& inputs, const Add& add);
  void follow(torch::Device device);
  void clear();
  std::vector<Slot> set_aside();
  void combine_with(std::vector<Slot>& earlier);

  class Replay;
  struct Gathered {
    std::vector<Slot> slots;
    torch::Device device = torch::kCPU;
    int64_t updates = 0;
    const Inputs* replayed = nullptr;  // of the update of a captured step that is under way
  };

  friend class metrics::MetricCollection;

  std::string name_;
  std::shared_ptr<Gathered> gathered_;  // of one metric, or of all that share it
  torch::Tensor batch_value_;
};

/// Metrics under their names, in the order of their registration.
using NamedMetrics = std::vector<std::pair<std::string, std::shared_ptr<Metric>>>;

/// A metric of predictions against targets.
class TargetMetric : public Metric {
  friend class metrics::MetricCollection;

 public:
  /// Adds a batch. Throws UsageError for what the metric cannot take, and names the shapes, types or values.
  void update(const torch::Tensor& preds, const torch::Tensor& target);
  /// Adds a batch and returns its value alone.
  torch::Tensor operator()(const torch::Tensor& preds, const torch::Tensor& target);

 protected:
  /// Adds a batch to the states; both tensors are on the states' device. Gradients are off.
  virtual void add(const torch::Tensor& preds, const torch::Tensor& target) = 0;

 private:
  void check_devices(const torch::Tensor& preds, const torch::Tensor& target) const;
};

/// A metric that a module has registered: what Module::register_metric returns and a module keeps as a member. Copies
/// stand for the same metric. Throws UsageError when it is used before it holds one.
template <std::derived_from<Metric> M>
class MetricHolder {
 public:
  MetricHolder() = default;
  explicit MetricHolder(std::shared_ptr<M> metric) : metric_(std::move(metric)) {}

  M& operator*() const { return held(); }
  M* operator->() const { return &held(); }
  operator M&() const { return held(); }

  /// See the metric's own members.
  template <class... Arguments>
  void update(Arguments&&... arguments) const {
    held().update(std::forward<Arguments>(arguments)...);
  }
  template <class... Arguments>
  torch::Tensor operator()(Arguments&&... arguments) const {
    return held()(std::forward<Arguments>(arguments)...);
  }
  torch::Tensor compute() const { return held().compute(); }
  void reset() const { held().reset(); }

 private:
  M& held() const;

  std::shared_ptr<M> metric_;
};

/// Throws the UsageError about a holder without a metric.
[[noreturn]] void throw_empty_metric_holder();

template <std::derived_from<Metric> M>
M& MetricHolder<M>::held() const {
  if (!metric_) throw_empty_metric_holder();
  return *metric_;
}

}  // namespace troupe
