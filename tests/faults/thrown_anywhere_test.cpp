// User code that throws, wherever the library calls it: the run ends with what was thrown and where, and nothing hangs.
#include "tests/support/ddp.hpp"
#include "troupe/actors/caf_callback_actor.hpp"
#include "troupe/base/exception_text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <iostream>
#include <numeric>
#include <optional>
#include <set>

namespace troupe {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// --- What throws -----------------------------------------------------------------------------------------------------

std::set<std::string> bombs;  // places that throw, in each run anew
bool throws_a_number = false;

// User code calls it wherever it is called.
void pass(const std::string& place) {
  if (!bombs.contains(place)) return;
  if (throws_a_number) throw 42;
  throw std::runtime_error(place + " is out of luck");
}
std::string text_of(const std::string& place) {
  return throws_a_number ? "an exception of type int, which is not a std::exception" : place + " is out of luck";
}

#define EACH_PLAIN_HOOK(X)     \
  X(on_fit_start)              \
  X(on_fit_end)                \
  X(on_pretrain_routine_start) \
  X(on_pretrain_routine_end)   \
  X(on_train_start)            \
  X(on_train_end)              \
  X(on_epoch_start)            \
  X(on_epoch_end)              \
  X(on_train_epoch_start)      \
  X(on_train_epoch_end)        \
  X(on_after_backward)         \
  X(on_validation_start)       \
  X(on_validation_end)         \
  X(on_validation_epoch_start) \
  X(on_validation_epoch_end)   \
  X(on_test_start)             \
  X(on_test_end)               \
  X(on_test_epoch_start)       \
  X(on_test_epoch_end)         \
  X(on_predict_start)          \
  X(on_predict_end)            \
  X(on_predict_epoch_start)    \
  X(on_predict_epoch_end)
#define EACH_MODE_HOOK(X)      \
  X(on_validation_model_eval)  \
  X(on_validation_model_train) \
  X(on_test_model_eval)        \
  X(on_test_model_train)       \
  X(on_predict_model_eval)
#define EACH_EVALUATION(X) X(validation) X(test) X(predict)
#define EACH_LOADER(X) X(train_dataloader) X(val_dataloader) X(test_dataloader) X(predict_dataloader)

class Data : public Dataset {
 public:
  int64_t size() const override {
    pass("Dataset::size");
    return 8;
  }
  Batch get(int64_t index) override {
    pass("Dataset::get");
    return {torch::full({1}, static_cast<double>(index), torch::kFloat32), torch::ones({1})};
  }
  std::optional<Batch> get_batch(at::IntArrayRef) override {
    pass("Dataset::get_batch");
    return std::nullopt;
  }
  std::optional<Batch> batch_memory(int64_t count) override {
    pass("Dataset::batch_memory");
    if (!bombs.contains("Dataset::get_into")) return std::nullopt;
    return Batch{torch::zeros({count, 1}), torch::zeros({count, 1})};
  }
  void get_into(int64_t, Batch&, int64_t) override { pass("Dataset::get_into"); }
  std::shared_ptr<Dataset> replicate() const override {
    pass("Dataset::replicate");
    return nullptr;
  }
};

class Stream : public IterableDataset {
 public:
  void start(int64_t, int64_t, int64_t) override {
    pass("IterableDataset::start");
    left_ = 8;
  }
  std::optional<Batch> next() override {
    pass("IterableDataset::next");
    if (left_-- <= 0) return std::nullopt;
    return Batch{torch::ones({1}), torch::ones({1})};
  }

 private:
  int64_t left_ = 0;
};

class Order : public Sampler {
 public:
  std::vector<int64_t> indices(int64_t size, uint64_t, int64_t) const override {
    pass("Sampler::indices");
    std::vector<int64_t> all(static_cast<std::size_t>(size));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  std::unique_ptr<const IndexOrder> order(int64_t size, uint64_t seed, int64_t epoch) const override {
    pass("Sampler::order");
    return Sampler::order(size, seed, epoch);
  }
  int64_t count(int64_t size) const override {
    pass("Sampler::count");
    return size;
  }
};

int64_t fetchers = 0;
bool reads_a_stream = false;
bool has_bad_folder = false;  // for the monitor's checkpoint

DataLoader loader(bool collates) {
  DataLoaderOptions options{.batch_size = 4, .num_workers = fetchers};
  if (reads_a_stream) return {std::make_shared<Stream>(), options};
  options.sampler = std::make_shared<Order>();
  if (collates) {
    options.collate = [](std::vector<Batch> samples) {
      pass("collate");
      return default_collate(std::move(samples));
    };
  }
  return {std::make_shared<Data>(), options};
}

class Exact : public TargetMetric {
 public:
  std::string warning() const override {
    pass("Metric::warning");
    return "";
  }
  Exact() { total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum); }

 protected:
  void add(const torch::Tensor&, const torch::Tensor& target) override {
    pass("Metric::add");
    at(total_) += target.size(0);
  }
  torch::Tensor result() const override {
    pass("Metric::result");
    return at(total_).to(torch::kFloat64);
  }

 private:
  State total_;
};

class Schedule : public LRScheduler {
 public:
  using LRScheduler::LRScheduler;
  void step() override { pass("LRScheduler::step"); }
  bool needs_metric() const override {
    pass("LRScheduler::needs_metric");
    return false;
  }
  nlohmann::json state_dict() const override {
    pass("LRScheduler::state_dict");
    return 1;
  }
  void load_state_dict(const nlohmann::json&) override { pass("LRScheduler::load_state_dict"); }
};

class Numbers : public Sink {
 public:
  std::string name() const override { return "numbers"; }
  void write(const Record&) override { pass("Sink::write"); }
  void flush() override { pass("Sink::flush"); }
  void files_are_complete() override { pass("Sink::files_are_complete"); }
};

class Watcher : public Monitor {
 public:
  std::string state_key() const override {
    pass("Monitor::state_key");
    return "Watcher";
  }
  nlohmann::json state_dict() const override {
    pass("Monitor::state_dict");
    return 1;
  }
  void load_state_dict(const nlohmann::json&) override { pass("Monitor::load_state_dict"); }
  void start(const RunInfo& info) override {
    pass("Monitor::start");
    folder_ = info.run_dir;
  }
  std::optional<int64_t> next_step(const Progress&) const override {
    pass("Monitor::next_step");
    return std::nullopt;
  }
  std::optional<double> next_time() const override {
    pass("Monitor::next_time");
    return std::nullopt;
  }
  Decision decide(Moment moment, const Progress&, const MetricMap&) override {
    pass("Monitor::decide");
    if (moment != Moment::train_epoch_end) return {};
    return {.save = {{has_bad_folder ? "/proc/none/x" : folder_ / "watched.safetensors", {}}}};
  }
  void saved(const std::filesystem::path&) override { pass("Monitor::saved"); }
  void save_failed(const std::filesystem::path&) override { pass("Monitor::save_failed"); }
  void run_ended() override { pass("Monitor::run_ended"); }

 private:
  std::filesystem::path folder_;
};

class Listener : public Callback {
 public:
#define PLAIN(hook)                          \
  void hook(RunContext&, Module&) override { \
    pass("Callback::" #hook);                \
  }
  EACH_PLAIN_HOOK(PLAIN)
  PLAIN(on_sanity_check_start)
  PLAIN(on_sanity_check_end)
#undef PLAIN
#define EVALUATION(stage)                                                                                         \
  void on_##stage##_batch_start(RunContext&, Module&, const Batch&, int64_t, int64_t) override {                  \
    pass("Callback::on_" #stage "_batch_start");                                                                  \
  }                                                                                                               \
  void on_##stage##_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t, int64_t) override { \
    pass("Callback::on_" #stage "_batch_end");                                                                    \
  }
  EACH_EVALUATION(EVALUATION)
#undef EVALUATION
  void on_train_batch_start(RunContext&, Module&, const Batch&, int64_t) override {
    pass("Callback::on_train_batch_start");
  }
  void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t) override {
    pass("Callback::on_train_batch_end");
  }
  void on_before_zero_grad(RunContext&, Module&, torch::optim::Optimizer&) override {
    pass("Callback::on_before_zero_grad");
  }
  void on_before_backward(RunContext&, Module&, const torch::Tensor&) override {
    pass("Callback::on_before_backward");
  }
  void on_before_optimizer_step(RunContext&, Module&, torch::optim::Optimizer&, int64_t) override {
    pass("Callback::on_before_optimizer_step");
  }
  void setup(RunContext&, Module&, Stage) override {
    pass("Callback::setup");
  }
  void teardown(RunContext&, Module&, Stage) override {
    pass("Callback::teardown");
  }
  void on_exception(RunContext&, Module&, const Failure&) override {
    pass("Callback::on_exception");
  }
  void on_save_checkpoint(RunContext&, Module&, nlohmann::json&) override {
    pass("Callback::on_save_checkpoint");
  }
  void on_load_checkpoint(RunContext&, Module&, const nlohmann::json&) override {
    pass("Callback::on_load_checkpoint");
  }
  void on_snapshot_start(Module&) override {
    pass("Callback::on_snapshot_start");
  }
  void on_snapshot_end(Module&) override {
    pass("Callback::on_snapshot_end");
  }
  bool has_batch_hooks() const override {
    pass("Callback::has_batch_hooks");
    return true;
  }
  std::shared_ptr<Callback> replicate() const override {
    pass("Callback::replicate");
    return nullptr;
  }
  std::string state_key() const override {
    pass("Callback::state_key");
    return "Listener";
  }
  nlohmann::json state_dict() const override {
    pass("Callback::state_dict");
    return 1;
  }
  void load_state_dict(const nlohmann::json&) override {
    pass("Callback::load_state_dict");
  }
  std::vector<std::pair<std::string, torch::Tensor>> state_tensors() const override {
    pass("Callback::state_tensors");
    return {{"one", torch::ones({1})}};
  }
  void load_state_tensors(const std::vector<std::pair<std::string, torch::Tensor>>&) override {
    pass("Callback::load_state_tensors");
  }
};

class Loading : public DataModule {
 public:
  void prepare_data() override { pass("DataModule::prepare_data"); }
  void setup(Stage) override { pass("DataModule::setup"); }
  void teardown(Stage) override { pass("DataModule::teardown"); }
  void on_exception(const Failure&) override { pass("DataModule::on_exception"); }
  Batch on_before_batch_transfer(Batch batch, int64_t) override {
    pass("DataModule::on_before_batch_transfer");
    return batch;
  }
  Batch transfer_batch_to_device(Batch batch, torch::Device, int64_t) override {
    pass("DataModule::transfer_batch_to_device");
    return batch;
  }
  Batch on_after_batch_transfer(Batch batch, int64_t) override {
    pass("DataModule::on_after_batch_transfer");
    return batch;
  }
  nlohmann::json state_dict() const override {
    pass("DataModule::state_dict");
    return 1;
  }
  void load_state_dict(const nlohmann::json&) override { pass("DataModule::load_state_dict"); }
#define LOADER(hook)              \
  DataLoaders hook() override {   \
    pass("DataModule::" #hook);   \
    return loader(collates_here); \
  }
  EACH_LOADER(LOADER)
#undef LOADER
  static inline bool collates_here = false;
};

class Everything : public Line {
 public:
  explicit Everything(LineOptions options = {}) : Line(options) { pass("constructor"); }
#define PLAIN(hook)      \
  void hook() override { \
    pass(#hook);         \
  }
  EACH_PLAIN_HOOK(PLAIN)
  PLAIN(prepare_data)
  PLAIN(on_post_move_to_device)
#undef PLAIN
#define MODE(hook)       \
  void hook() override { \
    pass(#hook);         \
    Line::hook();        \
  }
  EACH_MODE_HOOK(MODE)
#undef MODE
#define EVALUATION(stage)                                                                   \
  void on_##stage##_batch_start(const Batch&, int64_t, int64_t) override {                  \
    pass("on_" #stage "_batch_start");                                                      \
  }                                                                                         \
  void on_##stage##_batch_end(const StepOutput&, const Batch&, int64_t, int64_t) override { \
    pass("on_" #stage "_batch_end");                                                        \
  }                                                                                         \
  StepOutput stage##_step(const Batch& batch, int64_t) override {                           \
    pass(#stage "_step");                                                                   \
    return forward(batch[0]).mean();                                                        \
  }
  EACH_EVALUATION(EVALUATION)
#undef EVALUATION
  using Line::predict_step, Line::test_step, Line::training_step, Line::validation_step;
  StepOutput training_step(const Batch& batch, int64_t) override {
    pass("training_step");
    exact_.update(batch[1], batch[1]);
    log("exact", exact_, {.on_step = false, .on_epoch = true});
    log("train_loss", error(batch));
    return error(batch);
  }
  StepOutput training_step_end(const std::vector<StepOutput>& parts) override {
    pass("training_step_end");
    return Line::training_step_end(parts);
  }
  StepOutput validation_step_end(const std::vector<StepOutput>& parts) override {
    pass("validation_step_end");
    return Line::validation_step_end(parts);
  }
  StepOutput test_step_end(const std::vector<StepOutput>& parts) override {
    pass("test_step_end");
    return Line::test_step_end(parts);
  }
  void training_epoch_end(const EpochOutputs&) override {
    pass("training_epoch_end");
  }
  void validation_epoch_end(const EpochOutputs&) override {
    pass("validation_epoch_end");
  }
  void test_epoch_end(const EpochOutputs&) override {
    pass("test_epoch_end");
  }
  EpochControl on_train_batch_start(const Batch&, int64_t) override {
    pass("on_train_batch_start");
    if (bombs.contains("experiment")) logger().experiment<Numbers>([](Numbers&) { pass("experiment"); });
    return EpochControl::proceed;
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    pass("on_train_batch_end");
  }
  void on_before_zero_grad(torch::optim::Optimizer&) override {
    pass("on_before_zero_grad");
  }
  void optimizer_zero_grad(int64_t epoch, int64_t batch_idx, torch::optim::Optimizer& optimizer,
                           int64_t optimizer_idx) override {
    pass("optimizer_zero_grad");
    Line::optimizer_zero_grad(epoch, batch_idx, optimizer, optimizer_idx);
  }
  void on_before_backward(const torch::Tensor&) override {
    pass("on_before_backward");
  }
  void backward(const torch::Tensor& loss, torch::optim::Optimizer& optimizer, int64_t optimizer_idx) override {
    pass("backward");
    Line::backward(loss, optimizer, optimizer_idx);
  }
  void on_before_optimizer_step(torch::optim::Optimizer&, int64_t) override {
    pass("on_before_optimizer_step");
  }
  void configure_gradient_clipping(torch::optim::Optimizer&, int64_t, std::optional<double>,
                                   GradientClipAlgorithm) override {
    pass("configure_gradient_clipping");
  }
  void optimizer_step(int64_t epoch, int64_t batch_idx, torch::optim::Optimizer& optimizer, int64_t optimizer_idx,
                      const OptimizerClosure& closure) override {
    pass("optimizer_step");
    Line::optimizer_step(epoch, batch_idx, optimizer, optimizer_idx, closure);
  }
  void lr_scheduler_step(LRScheduler& scheduler, int64_t optimizer_idx, std::optional<double> metric) override {
    pass("lr_scheduler_step");
    Line::lr_scheduler_step(scheduler, optimizer_idx, metric);
  }
  Optimizers configure_optimizers() override {
    pass("configure_optimizers");
    auto optimizer = std::make_shared<torch::optim::SGD>(parameters(), 0.01);
    return {optimizer, std::make_shared<Schedule>(optimizer)};
  }
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override {
    pass("configure_callbacks");
    return {std::make_shared<Listener>()};
  }
  Batch on_before_batch_transfer(Batch batch, int64_t) override {
    pass("on_before_batch_transfer");
    return batch;
  }
  Batch transfer_batch_to_device(Batch batch, torch::Device, int64_t) override {
    pass("transfer_batch_to_device");
    return batch;
  }
  Batch on_after_batch_transfer(Batch batch, int64_t) override {
    pass("on_after_batch_transfer");
    return batch;
  }
  void on_save_checkpoint(nlohmann::json&) override {
    pass("on_save_checkpoint");
  }
  void on_load_checkpoint(const nlohmann::json&) override {
    pass("on_load_checkpoint");
  }
  void add_to_queue(ResultQueue&) override {
    pass("add_to_queue");
  }
  void get_from_queue(ResultQueue&) override {
    pass("get_from_queue");
  }
  MetricMap get_progress_bar_dict(MetricMap metrics) override {
    pass("get_progress_bar_dict");
    return metrics;
  }
#define LOADER(hook)            \
  DataLoaders hook() override { \
    pass(#hook);                \
    return loader(false);       \
  }
  EACH_LOADER(LOADER)
#undef LOADER
  void setup(Stage) override {
    pass("setup");
  }
  void teardown(Stage) override {
    ++teardowns;
    pass("teardown");
  }
  int teardowns = 0;

 private:
  MetricHolder<Exact> exact_ = register_metric("exact", Exact());
};

// --- How it is tried -------------------------------------------------------------------------------------------------

enum class Way { fit, fit_data_module, resume, test, predict };

struct Place {
  std::string name;
  std::string where;  // in the error; by default the name without its class
  Way way = Way::fit;
};

// A run that hangs would hang the test, so it has a thread of its own and a minute.
void in_time(const std::string& what, const std::function<void()>& run) {
  auto done = std::async(std::launch::async, run);
  if (done.wait_for(std::chrono::seconds(60)) == std::future_status::timeout) {
    std::cerr << "hangs: " << what << '\n';
    std::_Exit(1);
  }
  EXPECT_NO_THROW(done.get()) << what;
}

TrainerOptions options_below(const TempDir& dir) {
  auto options = quiet(dir);
  options.max_epochs = 1;
  options.log_every_n_steps = 1;
  options.callbacks = {std::make_shared<Watcher>(),
                       std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.save_last = true})};
  options.loggers = {};
  options.sinks = {std::make_shared<Numbers>()};
  return options;
}

void go(Trainer& trainer, const std::shared_ptr<Everything>& module, Way way) {
  switch (way) {
    case Way::fit: trainer.fit(module); break;
    case Way::fit_data_module: trainer.fit(module, {}, {}, {.datamodule = std::make_shared<Loading>()}); break;
    case Way::resume:
      trainer.fit(module, {}, {}, {.datamodule = std::make_shared<Loading>(), .ckpt_path = "last"});
      break;
    case Way::test: trainer.test(module); break;
    case Way::predict: trainer.predict(module); break;
  }
}

// What a run says in which these places throw; the first of them ends it.
Failure failure_of(Trainer& trainer, const std::shared_ptr<Everything>& module, Way way,
                   const std::set<std::string>& places) {
  bombs = places;
  Failure failure;
  try {
    go(trainer, module, way);
    ADD_FAILURE() << "nothing was thrown by " << *places.begin();
  } catch (const RunError& error) {
    failure = error.failure();
  }
  bombs.clear();
  return failure;
}

void expect_an_end_with(const Place& place) {
  const TempDir dir;
  if (place.way == Way::resume) {
    Trainer first(options_below(dir));
    go(first, std::make_shared<Everything>(), Way::fit_data_module);
  }
  auto options = options_below(dir);
  if (place.way == Way::resume) options.max_epochs = 2;
  options.enable_progress_bar = place.name == "get_progress_bar_dict";
  Trainer trainer(options);
  const auto module = std::make_shared<Everything>();
  const Failure failure = failure_of(trainer, module, place.way, {place.name});
  EXPECT_THAT(failure.message, HasSubstr(text_of(place.name)));
  const auto scope = place.name.rfind("::");
  const std::string own = scope == std::string::npos ? place.name : place.name.substr(scope + 2);
  EXPECT_EQ(failure.hook, place.where.empty() ? own : place.where) << place.name;
  EXPECT_EQ(trainer.module(), module) << place.name;
  const bool is_before_setup = place.name.ends_with("prepare_data") || failure.hook == "configure_callbacks";
  EXPECT_EQ(module->teardowns, is_before_setup ? 0 : 1) << place.name;
  // The Trainer is as good as new.
  EXPECT_NO_THROW(go(trainer, module, place.way)) << place.name;
}

void try_all(const std::vector<Place>& places) {
  for (const bool number : {false, true}) {
    throws_a_number = number;
    for (const auto& place : places) {
      in_time(place.name + (number ? " with a number" : ""), [&] { expect_an_end_with(place); });
    }
  }
  throws_a_number = false;
}

// --- The places ------------------------------------------------------------------------------------------------------

Way way_of(const std::string& hook) {
  if (hook.find("test") != std::string::npos) return Way::test;
  return hook.find("predict") != std::string::npos ? Way::predict : Way::fit;
}

TEST(Thrown, ByAHookOfTheModuleEndsTheRunWithItsNameAndText) {
  std::vector<Place> places;
#define ADD(hook) places.push_back({#hook, "", way_of(#hook)});
  EACH_PLAIN_HOOK(ADD)
  EACH_MODE_HOOK(ADD)
#undef ADD
  for (const char* hook : {"prepare_data",
                           "setup",
                           "teardown",
                           "configure_optimizers",
                           "configure_callbacks",
                           "on_post_move_to_device",
                           "train_dataloader",
                           "val_dataloader",
                           "test_dataloader",
                           "predict_dataloader",
                           "on_before_batch_transfer",
                           "transfer_batch_to_device",
                           "on_after_batch_transfer",
                           "on_train_batch_start",
                           "training_step",
                           "training_step_end",
                           "on_before_zero_grad",
                           "optimizer_zero_grad",
                           "on_before_backward",
                           "backward",
                           "on_before_optimizer_step",
                           "configure_gradient_clipping",
                           "optimizer_step",
                           "lr_scheduler_step",
                           "on_train_batch_end",
                           "training_epoch_end",
                           "on_validation_batch_start",
                           "validation_step",
                           "validation_step_end",
                           "on_validation_batch_end",
                           "validation_epoch_end",
                           "on_test_batch_start",
                           "test_step",
                           "test_step_end",
                           "on_test_batch_end",
                           "test_epoch_end",
                           "on_predict_batch_start",
                           "predict_step",
                           "on_predict_batch_end",
                           "on_save_checkpoint",
                           "add_to_queue",
                           "get_from_queue",
                           "get_progress_bar_dict"}) {
    places.push_back({hook, "", way_of(hook)});
  }
  places.push_back({"on_load_checkpoint", "", Way::resume});
  try_all(places);
}

TEST(Thrown, ByACallbackEndsTheRunWithTheHooksName) {
  std::vector<Place> places;
#define ADD(hook) places.push_back({"Callback::" #hook, "", way_of(#hook)});
  EACH_PLAIN_HOOK(ADD)
  ADD(on_sanity_check_start)
  ADD(on_sanity_check_end)
  ADD(on_train_batch_start)
  ADD(on_train_batch_end)
  ADD(on_before_zero_grad)
  ADD(on_before_backward)
  ADD(on_before_optimizer_step)
#define ADD_EVALUATION(stage) ADD(on_##stage##_batch_start) ADD(on_##stage##_batch_end)
  EACH_EVALUATION(ADD_EVALUATION)
#undef ADD_EVALUATION
  ADD(setup)
  ADD(teardown)
  ADD(on_save_checkpoint)
  ADD(on_snapshot_start)
  ADD(on_snapshot_end)
  ADD(state_dict)
#undef ADD
  places.push_back({"Callback::has_batch_hooks", "configure_callbacks"});
  places.push_back({"Callback::state_tensors", "state_dict"});
  places.push_back({"Callback::state_key", "configure_callbacks"});
  places.push_back({"Callback::load_state_tensors", "load_state_dict", Way::resume});
  for (const char* hook : {"on_load_checkpoint", "load_state_dict"}) {
    places.push_back({std::string("Callback::") + hook, "", Way::resume});
  }
  try_all(places);
}

TEST(Thrown, ByAMonitorEndsTheRunWithItsClassAndMethod) {
  try_all({{"Monitor::start", "Watcher::start"},
           {"Monitor::next_step", "Watcher::next_step"},
           {"Monitor::next_time", "Watcher::next_time"},
           {"Monitor::decide", "Watcher::decide"},
           {"Monitor::state_dict", "Watcher::state_dict"},
           {"Monitor::saved", "Watcher::saved"},
           {"Monitor::run_ended", "Watcher::run_ended"},
           {"Monitor::load_state_dict", "Watcher::load_state_dict", Way::resume}});
  has_bad_folder = true;
  bombs = {"Monitor::save_failed"};
  in_time("Monitor::save_failed", [] {
    const TempDir dir;
    Trainer trainer(options_below(dir));
    const auto failure = failure_of(trainer, std::make_shared<Everything>(), Way::fit, {"Monitor::save_failed"});
    EXPECT_EQ(failure.hook, "Watcher::save_failed");
  });
  has_bad_folder = false;
}

TEST(Thrown, ByASinkEndsTheRunWithItsName) {
  try_all({{"Sink::write", "logger numbers"}, {"Sink::flush", "logger numbers"}, {"experiment", "logger numbers"}});
}

// The run is over then.
TEST(Thrown, ByASinkThatTakesTheRunsFilesIsAWarning) {
  for (const bool number : {false, true}) {
    throws_a_number = number;
    const TempDir dir;
    Trainer trainer(options_below(dir));
    bombs = {"Sink::files_are_complete"};
    testing::internal::CaptureStderr();
    EXPECT_NO_THROW(trainer.fit(std::make_shared<Everything>()));
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("the sink numbers could not take the run's files: " + text_of("Sink::files_are_complete")));
    bombs.clear();
  }
  throws_a_number = false;
}

TEST(Thrown, ByADataModuleEndsTheRunWithTheHooksName) {
  std::vector<Place> places;
  for (const char* hook :
       {"prepare_data", "setup", "teardown", "train_dataloader", "val_dataloader", "on_before_batch_transfer",
        "transfer_batch_to_device", "on_after_batch_transfer", "state_dict"}) {
    places.push_back({std::string("DataModule::") + hook, "", Way::fit_data_module});
  }
  places.push_back({"DataModule::load_state_dict", "", Way::resume});
  try_all(places);
}

class NeverThere : public DataModule {
 public:
  NeverThere() { throw 42; }
};

TEST(Thrown, OutsideOfARunEndsTheProgramWithOneSentence) {
  const TempDir dir;
  std::string name = "program", stage = "fit";
  std::vector<char*> words{name.data(), stage.data()};
  MainOptions options{.trainer = options_below(dir)};
  testing::internal::CaptureStderr();
  EXPECT_EQ((troupe::main<Everything, NeverThere>(2, words.data(), options)), 1);
  options.prepare = [](Trainer&) { throw std::string("there is no actor"); };
  EXPECT_EQ((troupe::main<Everything, Loading>(2, words.data(), options)), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "program: an exception of type int, which is not a std::exception\nprogram: there is no actor\n");
}

TEST(Thrown, ByMetricsAndSchedulersEndsTheRun) {
  try_all({{"Metric::add", "training_step"},
           {"Metric::result", "a logged metric's compute"},
           {"Metric::warning", "a logged metric's compute"},
           {"LRScheduler::step", "lr_scheduler_step"},
           {"LRScheduler::needs_metric", "configure_optimizers"},
           {"LRScheduler::state_dict", "state_dict"},
           {"LRScheduler::load_state_dict", "load_schedulers_state", Way::resume}});
}

TEST(Thrown, ByDataEndsTheRunFromLoadersAndFetchersAlike) {
  for (fetchers = 0; fetchers <= 2; fetchers += 2) {
    try_all({{"Dataset::get", "loader"},
             {"Dataset::get_batch", "loader"},
             {"Dataset::replicate", "loader"},
             {"Dataset::size", "train_dataloader"},
             {"Dataset::batch_memory", "loader"},
             {"Dataset::get_into", "loader"},
             {"Sampler::indices", "loader"},
             {"Sampler::order", "loader"}});
    Loading::collates_here = true;
    try_all({{"collate", "loader", Way::fit_data_module}});
    Loading::collates_here = false;
    reads_a_stream = true;
    try_all({{"IterableDataset::start", "loader"}, {"IterableDataset::next", "loader"}});
    reads_a_stream = false;
  }
  fetchers = 0;
}

// --- One after the other, beside each other, and what is no user code ------------------------------------------------

TEST(Thrown, AfterAFailureTheFirstOneWinsAndAllOthersAreToldP6) {
  for (const bool number : {false, true}) {
    throws_a_number = number;
    for (const char* later : {"Callback::on_exception", "DataModule::on_exception", "Callback::teardown", "teardown",
                              "DataModule::teardown", "Monitor::run_ended"}) {
      in_time(later, [&] {
        const TempDir dir;
        Trainer trainer(options_below(dir));
        const auto module = std::make_shared<Everything>();
        testing::internal::CaptureStderr();
        const auto failure = failure_of(trainer, module, Way::fit_data_module, {"on_train_batch_end", later});
        const auto said = testing::internal::GetCapturedStderr();
        EXPECT_EQ(failure.hook, "on_train_batch_end") << later;
        EXPECT_EQ(failure.message, text_of("on_train_batch_end")) << later;
        EXPECT_EQ(module->teardowns, 1) << later;
        EXPECT_EQ(trainer.module(), module) << later;
        if (std::string(later) != "Monitor::run_ended") {
          EXPECT_THAT(said, HasSubstr("warning: at the end of the run, ")) << later;
          EXPECT_THAT(said, HasSubstr(text_of(later))) << later;
        }
      });
    }
  }
  throws_a_number = false;
}

TEST(Thrown, ByTheModulesConstructorEndsTheRun) {
  for (const bool number : {false, true}) {
    throws_a_number = number;
    in_time("constructor", [] {
      const TempDir dir;
      Trainer trainer(options_below(dir));
      bombs = {"constructor"};
      EXPECT_THAT(error_of([&] { trainer.fit<Everything>({}); }),
                  HasSubstr(text_of("constructor") + " (in the module's constructor, stage fit"));
      bombs.clear();
      EXPECT_NE(trainer.fit<Everything>({}), nullptr);
    });
  }
  throws_a_number = false;
}

TEST(Thrown, ByAnActorOfTheUsersEndsItAloneWithAWarning) {
  for (const bool number : {false, true}) {
    throws_a_number = number;
    for (const char* place : {"actor's start", "actor's first event", "actor's last event"}) {
      in_time(place, [&] {
        const TempDir dir;
        Trainer trainer(options_below(dir));
        trainer.add_actor("watcher", CafBehavior{[](caf::event_based_actor*, const RunHandle&) -> caf::behavior {
                            pass("actor's start");
                            return {[](const RunStarted&) { pass("actor's first event"); },
                                    [](const RunEnded&) { pass("actor's last event"); }};
                          }});
        bombs = {place};
        testing::internal::CaptureStderr();
        EXPECT_NO_THROW(trainer.fit(std::make_shared<Everything>()));
        EXPECT_THAT(testing::internal::GetCapturedStderr(),
                    HasSubstr("the actor watcher threw, and has ended: " + text_of(place)));
        bombs.clear();
      });
    }
  }
  throws_a_number = false;
}

// Whoever delivers the actor's events belongs to the cast.
TEST(Thrown, AMemberOfTheCastThatIsKilledEndsTheRunWithItsNameP10) {
  for (const auto reason : {caf::exit_reason::kill, caf::exit_reason::user_shutdown}) {
    in_time("a member is killed", [&] {
      const TempDir dir;
      auto options = options_below(dir);
      options.max_epochs = -1;
      Trainer trainer(options);
      trainer.add_actor("killer", CafBehavior{[=](caf::event_based_actor* self, const RunHandle&) -> caf::behavior {
                          return {[=](const TrainBatchEnded&) { self->send_exit(self->current_sender(), reason); }};
                        }});
      const auto module = std::make_shared<Everything>();
      EXPECT_THAT(error_of([&] { trainer.fit(module); }), HasSubstr("(in the usher of the actor killer, stage fit"));
      EXPECT_EQ(module->teardowns, 1);
      EXPECT_EQ(trainer.module(), module);
    });
  }
}

class WithABuffer : public Line {
 public:
  explicit WithABuffer(torch::ScalarType type) { register_buffer("b", torch::ones({3}).to(type)); }
};

TEST(Thrown, ATypeThatTheCheckpointerCannotCompareDoesNotHang) {
  for (const auto type :
       {torch::kFloat8_e4m3fn, torch::kFloat8_e5m2, torch::kFloat8_e4m3fnuz, torch::kFloat8_e5m2fnuz}) {
    in_time("float8", [&] {
      const TempDir dir;
      auto options = quiet(dir);
      Trainer trainer(options);
      const auto module = std::make_shared<WithABuffer>(type);
      const auto error = error_of([&] { trainer.fit(module, points()); });
      EXPECT_THAT(error, AnyOf("", HasSubstr("'model.b'")));  // written, or refused
      EXPECT_EQ(trainer.module(), module);
    });
  }
}

// On the second of two devices, whose worker waits for the first one and is waited for.
class OnTheSecond : public Net {
 public:
  using Net::Net;
  void strike(const char* hook) {
    if (global_rank() == 1) pass(hook);
  }
  void on_train_epoch_end() override { strike("on_train_epoch_end"); }
  void on_fit_end() override { strike("on_fit_end"); }
  void teardown(Stage) override {
    ++teardowns;
    strike("teardown");
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    strike("training_step");
    return Net::training_step(batch, batch_idx);
  }
  static inline std::atomic<int> teardowns = 0;
};

TEST(Thrown, OnOneOfTwoDevicesEndsBothWithItsRankP6) {
  for (const bool number : {false, true}) {
    throws_a_number = number;
    for (const std::string place : {"training_step", "on_train_epoch_end", "on_fit_end", "teardown", "Monitor::saved",
                                    "Monitor::state_dict", "Monitor::run_ended", "Sink::write", "Sink::flush"}) {
      in_time(place + " on two devices", [&] {
        const TempDir dir;
        auto options = exact(dir, 2);
        options.callbacks = {std::make_shared<Watcher>()};
        options.loggers = {};
        options.sinks = {std::make_shared<Numbers>()};
        Trainer trainer(options);
        OnTheSecond::teardowns = 0;
        bombs = {place};
        const auto error = error_of([&] { trainer.fit<OnTheSecond>({}, DataLoader(samples(16), {.batch_size = 4})); });
        bombs.clear();
        EXPECT_THAT(error, HasSubstr(text_of(place))) << place;
        const bool is_of_the_process = place.find("::") != std::string::npos;
        EXPECT_THAT(error, HasSubstr(is_of_the_process ? "rank 0" : "rank 1")) << place;
        EXPECT_EQ(OnTheSecond::teardowns, 2) << place;
        EXPECT_NE(trainer.module(), nullptr) << place;
        EXPECT_NO_THROW(trainer.fit<OnTheSecond>({}, DataLoader(samples(16), {.batch_size = 4}))) << place;
      });
    }
  }
  throws_a_number = false;
}

TEST(Thrown, ByACallbackThatIsReplicatedForASecondDeviceEndsTheRun) {
  in_time("Callback::replicate", [] {
    const TempDir dir;
    auto options = exact(dir, 2);
    options.callbacks = {std::make_shared<Listener>()};
    Trainer trainer(options);
    const DataLoader loader(samples(16), {.batch_size = 4});
    bombs = {"Callback::replicate"};
    EXPECT_THAT(error_of([&] { trainer.fit<Net>({}, loader); }),
                HasSubstr("Callback::replicate is out of luck (in Listener::replicate, stage fit"));
    bombs.clear();
    EXPECT_NO_THROW(trainer.fit<Net>({}, loader));
  });
}

// The text of whatever is thrown.
template <class T>
std::string text_of_thrown(T thrown) {
  return text_thrown_by([&] { throw thrown; });
}

TEST(Thrown, AnythingHasAText) {
  EXPECT_EQ(text_thrown_by([] {}), "");
  EXPECT_EQ(text_of_thrown(std::runtime_error("plain")), "plain");
  EXPECT_EQ(text_of_thrown("a literal"), "a literal");
  EXPECT_EQ(text_of_thrown(std::string("a string")), "a string");
  EXPECT_EQ(text_of_thrown(42), "an exception of type int, which is not a std::exception");
  EXPECT_EQ(text_of_thrown(std::runtime_error("")), "an exception of type std::runtime_error, without a text");
  EXPECT_EQ(text_of_thrown(std::string()),
            "an exception of type " + c10::demangle(typeid(std::string).name()) + ", without a text");
  const std::string torchs = text_thrown_by([] { TORCH_CHECK(false, "of LibTorch"); });
  EXPECT_EQ(torchs, "of LibTorch");
  const auto text_of_torch = [](const char* message) { return text_thrown_by([&] { TORCH_CHECK(false, message); }); };
  EXPECT_EQ(text_of_torch("[enforce fail at alloc.cpp:1] err == 0. no memory. Sorry."), "no memory. Sorry.");
  EXPECT_EQ(text_of_torch("[enforce fail at alloc.cpp:1]"), "[enforce fail at alloc.cpp:1]");
  EXPECT_EQ(text_thrown_by([] { torch::eye(2).to_sparse().slice(0, 0, 1); }),
            "Could not run 'aten::as_strided' with arguments from the 'SparseCPU' backend");
}

}  // namespace
}  // namespace troupe
