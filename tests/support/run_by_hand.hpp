// A run without an end, whose messages a test delivers by hand: that of a whole cast, and that of a worker alone.
#pragma once

#include "tests/support/hand_delivery.hpp"
#include "tests/support/lines.hpp"
#include "troupe/actors/coordinator.hpp"
#include "troupe/actors/loader_messages.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/actors/worker.hpp"
#include "troupe/modules/record.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

/// Counts, and fails where it is told to.
struct Fragile : Line {
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    sizes.push_back(batch.size());
    if (breaks_step) throw std::runtime_error("the step broke");
    return Line::training_step(batch, batch_idx);
  }
  void on_train_start() override {
    if (breaks_start) throw std::runtime_error("the start broke");
  }
  void on_train_epoch_start() override { ++epoch_starts; }
  void on_fit_end() override { ++fit_ends; }
  void teardown(Stage) override { ++teardowns; }
  std::size_t steps() const { return sizes.size(); }

  bool breaks_step = false, breaks_start = false;
  std::vector<int64_t> sizes;  ///< of the batches that it was given
  int epoch_starts = 0, fit_ends = 0, teardowns = 0;
};

/// A sink on a disk that is full when it is told to be.
struct FragileSink : Sink {
  std::string name() const override { return "disk"; }
  void write(const Record& record) override {
    say_full(breaks_write);
    if (const auto* ended = std::get_if<StageEndedRecord>(&record)) ends.push_back(*ended);
  }
  void flush() override { say_full(breaks_flush); }
  static void say_full(bool breaks) {
    if (breaks) throw std::runtime_error("the disk is full");
  }

  bool breaks_write = false, breaks_flush = false;
  std::vector<StageEndedRecord> ends;
};

class RunByHand : public ::testing::Test {
 protected:
  TrainerOptions options() const {
    auto options = quiet(dir_);
    options.max_epochs = -1;
    options.watchdog_timeout = 10;
    options.log_every_n_steps = 1;
    options.enable_checkpointing = false;
    return resolved(options);
  }
  void fill(ReplicaSetup& replica, TrainerOptions options) {
    replica.options = std::make_shared<const TrainerOptions>(std::move(options));
    replica.make_module = [module = module_] { return module; };
    replica.overridden = module_hooks(*module_);
    replica.train_loaders = points();
  }

  /// `validates_beside`: with trainer.async_validation, and something to validate.
  void start(bool validates_beside = false) {
    cast::RunSetup setup;
    auto own = options();
    own.async_validation = validates_beside;
    fill(setup.replica, std::move(own));
    setup.state.options = setup.replica.options;
    setup.devices = {torch::kCPU};
    setup.pulses = {pulse_, validation_pulse_};
    if (validates_beside) {
      setup.replica.eval_loaders = points();
      setup.make_more = [] { return std::make_shared<Fragile>(); };
    }
    setup.sinks = {sink_};
    setup.files = files_;
    run_ = cast::start_run(hand_.system(), std::move(setup));
    ASSERT_TRUE(hand_.until([&] { return actor("worker") != nullptr; }));
    ASSERT_NE(actor("logger"), nullptr);
    ASSERT_NE(actor("checkpointer"), nullptr);
  }
  cast::ActorRef actor(const std::string& name) { return hand_.actor(name); }
  /// Delivers messages until the module has made so many steps at least.
  bool train(std::size_t steps) {
    return hand_.until([&] { return module_->steps() >= steps; });
  }
  bool has_result() const { return run_.result.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  /// Delivers messages until the run has come to its end.
  cast::RunResult result() {
    if (hand_.until([&] { return has_result(); })) return run_.result.get();
    ADD_FAILURE() << "the run has no end";
    return {};
  }

  const TempDir dir_;
  std::shared_ptr<Fragile> module_ = std::make_shared<Fragile>();
  std::shared_ptr<FragileSink> sink_ = std::make_shared<FragileSink>();
  std::shared_ptr<Pulse> pulse_ = std::make_shared<Pulse>("worker 0");  // the worker's
  std::shared_ptr<Pulse> validation_pulse_ = std::make_shared<Pulse>("the validation worker");
  std::shared_ptr<RunFiles> files_;  // null: the run writes none
  cast::HandDelivery hand_;
  cast::Run run_;
};

/// The worker's coordinator, logger and progress actor are the test.
class WorkerByHand : public RunByHand {
 protected:
  WorkerByHand() {
    cast::WorkerSetup setup;
    fill(setup.replica, options());
    setup.replica.pulse = pulse_;
    setup.coordinator = setup.progress = caf::actor_cast<cast::ActorRef>(me_);
    setup.logger = {setup.coordinator, std::make_shared<cast::InFlight>(1000)};
    worker_ = cast::spawn_worker(hand_.system(), std::move(setup));
    EXPECT_TRUE(perform(PrepareCommand{}));
  }

  template <class Message>
  void say(Message message) {
    me_->send(worker_, std::move(message));
    hand_.all();
  }
  /// Whether the worker carries it out.
  bool perform(Command command) {
    say(cast::Perform{std::move(command), nullptr, nullptr, false});
    return hear<cast::Done>().has_value();
  }
  /// The next message of this kind that the worker has sent.
  template <class Message>
  std::optional<Message> hear() {
    std::optional<Message> heard;
    me_->receive([&](Message& message) { heard = std::move(message); }, caf::after(std::chrono::seconds(0)) >> [] {});
    return heard;
  }

  caf::scoped_actor me_{hand_.system()};
  cast::ActorRef worker_;
};

}  // namespace troupe
