// A stage as a script: it yields one command at a time and goes on when the answer is there.
//
//     Script script = fit_script(state);
//     for (auto command = script.start(); command; command = script.resume(answer)) answer = carry_out(*command);
//
// A script knows no actors and no threads: the coordinator carries its commands out by messages to the workers, a test
// by a function. It holds the order of a whole stage, and thereby all decisions of a run.
//
// What a script does in several places, or what is a subject of its own, is a part, which yields commands too:
//
//     Script::Part agreed(RunState& state);
//     co_await agreed(state);
#pragma once

#include "troupe/modules/hooks.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/stage.hpp"
#include "troupe/runtime/loops/facts.hpp"

#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

/// Make the module, run the hooks before the first epoch. Answer::facts comes back.
struct PrepareCommand {};
/// Run boundary hooks, in order (protocol rule P4).
struct HooksCommand {
  std::span<const Hook> hooks;
};
/// Begin an epoch of training at a batch: the data loader is opened there, then the hooks run.
struct OpenEpochCommand {
  int64_t epoch = 0;
  int64_t batch_idx = 0;
  std::span<const Hook> hooks;
};
/// Train without a decision in between (protocol rule P3), until a limit or the end of the data.
struct TrainCommand {
  int64_t until_batch = -1;  ///< stop when so many batches of the epoch are finished; -1: no such limit
  int64_t until_step = -1;   ///< stop at this global step; -1: no such limit
  bool logs_first = false;   ///< metrics of the first optimizer step go to the sinks (log_every)
};
/// Run the end of an epoch.
struct CloseEpochCommand {
  std::span<const Hook> hooks;
  bool is_cut = false;       ///< the run ends within the epoch: who resumes it goes on with the rest
  bool keeps_state = false;  ///< take a snapshot behind it: checkpoints for the latest HandOverCommand hold that
};
/// Validation, test or prediction over all loaders, with the hooks around it.
struct EvaluateCommand {
  Stage stage = Stage::validate;
  bool is_sanity_check = false;
  int64_t limit = -1;  ///< batches of each loader at most, on top of the Trainer's limits; -1: no such limit
  std::span<const Hook> before, after;
};
/// Take a snapshot and keep it, for the SaveCommands that ask for it.
struct HoldCommand {};
/// Take a snapshot and write it.
struct SaveCommand {
  std::vector<SaveRequest> requests;
  bool validation_was_cut = false;  ///< the run goes on with that validation
  bool is_held = false;             ///< write the snapshot of the latest HoldCommand
  bool is_validated = false;        ///< write the state that the validation of the latest TakeValidationCommand saw
};

/// Give all groups of all optimizers this learning rate.
struct SetRateCommand {
  double lr = 0;
};

/// Take a snapshot that every process keeps in memory, to go back to if one of them is lost.
struct KeepCommand {};

/// Tell all processes something and hear what they say (protocol rule P8).
struct AgreeCommand {
  std::string mine;
};

/// Hand the module as it is to the worker that validates beside the training, which carries `evaluation` out with it.
struct HandOverCommand {
  EvaluateCommand evaluation;
  bool ends_epoch = false;                    ///< what checkpoints for it hold comes with the end of the epoch
  std::optional<int64_t> of_checkpoint = {};  ///< not as it is: the one that the checkpoint has at this place
};
/// Nothing, until one of these validations has come to its end (RunState::validation_results), or the run is
/// interrupted.
struct AwaitValidationCommand {};
/// Take what one of these validations has found as metrics, in the order in which they were begun.
struct TakeValidationCommand {
  std::shared_ptr<const ValidationResult> result;
  bool is_sanity_check = false;
  bool was_awaited = false;  ///< the training has waited for it
};

using Command = std::variant<PrepareCommand, HooksCommand, OpenEpochCommand, TrainCommand, CloseEpochCommand,
                             EvaluateCommand, HoldCommand, SaveCommand, KeepCommand, SetRateCommand, AgreeCommand,
                             HandOverCommand, AwaitValidationCommand, TakeValidationCommand>;

/// What a command leaves behind.
struct Answer {
  Progress progress;
  MetricMap metrics;                         ///< callback metrics
  bool epoch_over = false;                   ///< TrainCommand: the data came to its end, or the rest of it is skipped
  std::vector<MetricMap> evaluation;         ///< EvaluateCommand: metrics of each loader
  bool saw_batches = true;                   ///< EvaluateCommand: a batch at least
  std::vector<std::string> said;             ///< AgreeCommand: by each worker, by rank
  std::shared_ptr<const ModelAtStep> model;  ///< HandOverCommand
  std::shared_ptr<const ValidationResult> validation;  ///< of the worker that validates beside the training
};

class Script {
  // What a script and its parts share.
  struct Exchange {
    std::optional<Command> command;                // on its way out
    Answer answer;                                 // on its way in
    std::vector<std::coroutine_handle<>> running;  // the script, the part that it awaits, and so on: the last goes on
  };

  struct Promise {
    Exchange* exchange = nullptr;
    std::exception_ptr error;

    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { error = std::current_exception(); }

    /// `Answer answer = co_yield command;`
    auto yield_value(Command next) {
      exchange->command = std::move(next);
      struct Awaiter {
        Exchange& exchange;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<>) const noexcept {}
        Answer await_resume() const { return std::move(exchange.answer); }
      };
      return Awaiter{*exchange};
    }
  };

  // Owns a coroutine.
  template <class PromiseOfIt>
  class Owner {
   public:
    Owner() = default;
    explicit Owner(std::coroutine_handle<PromiseOfIt> handle) : handle_(handle) {}
    Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owner& operator=(Owner&& other) noexcept {
      std::swap(handle_, other.handle_);
      return *this;
    }
    ~Owner() {
      if (handle_) handle_.destroy();
    }
    std::coroutine_handle<PromiseOfIt> operator*() const { return handle_; }

   private:
    std::coroutine_handle<PromiseOfIt> handle_;
  };

 public:
  /// A part of a script or of another part: it runs when it is awaited, once, and throws there.
  class Part {
   public:
    struct promise_type : Promise {
      Part get_return_object() { return Part(std::coroutine_handle<promise_type>::from_promise(*this)); }
    };

    bool await_ready() const noexcept { return false; }
    template <class Awaiting>
    void await_suspend(std::coroutine_handle<Awaiting> awaiting) const {
      auto& promise = (*coroutine_).promise();
      promise.exchange = awaiting.promise().exchange;
      promise.exchange->running.push_back(*coroutine_);
    }
    void await_resume() const {
      if (const auto& error = (*coroutine_).promise().error) std::rethrow_exception(error);
    }

   private:
    explicit Part(std::coroutine_handle<promise_type> handle) : coroutine_(handle) {}

    Owner<promise_type> coroutine_;
  };

  struct promise_type : Promise {
    Exchange own_exchange;

    promise_type() { exchange = &own_exchange; }
    Script get_return_object() { return Script(std::coroutine_handle<promise_type>::from_promise(*this)); }
  };

  Script() = default;

  /// The first command, or nothing when the script has none. Throws what the script throws.
  std::optional<Command> start() {
    (*coroutine_).promise().exchange->running = {*coroutine_};
    return next();
  }
  /// Hands over the answer to the last command and returns the next one, or nothing at the end.
  std::optional<Command> resume(Answer answer) {
    (*coroutine_).promise().exchange->answer = std::move(answer);
    return next();
  }

 private:
  explicit Script(std::coroutine_handle<promise_type> handle) : coroutine_(handle) {}

  // Who awaits a part, and a part that has ended, come back here: so none is resumed, or destroyed, out of another.
  std::optional<Command> next() {
    Exchange& exchange = *(*coroutine_).promise().exchange;
    exchange.command.reset();
    while (!exchange.command && !exchange.running.empty()) {
      const auto running = exchange.running.back();
      running.resume();
      if (running.done()) exchange.running.pop_back();
    }
    if (const auto& error = (*coroutine_).promise().error) std::rethrow_exception(error);
    return std::move(exchange.command);
  }

  Owner<promise_type> coroutine_;
};

}  // namespace troupe
