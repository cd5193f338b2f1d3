// A stage as a script: it yields one command at a time and goes on when the answer is there.
//
//     Script script = fit_script(state);
//     for (auto command = script.start(); command; command = script.resume(answer)) answer = carry_out(*command);
//
// A script knows no actors and no threads: the coordinator carries its commands out by messages to the workers, a test
// by a function. It holds the order of a whole stage, and thereby all decisions of a run, in a page of code.
#pragma once

#include "troupe/modules/hooks.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/modules/progress.hpp"
#include "troupe/modules/stage.hpp"

#include <coroutine>
#include <cstdint>
#include <exception>
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
};
/// Run the end of an epoch.
struct CloseEpochCommand {
  std::span<const Hook> hooks;
  bool is_cut = false;  ///< the run ends within the epoch: who resumes it goes on with the rest
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
};

/// Tell all processes something and hear what they say (protocol rule P8).
struct AgreeCommand {
  std::string mine;
};

using Command = std::variant<PrepareCommand, HooksCommand, OpenEpochCommand, TrainCommand, CloseEpochCommand,
                             EvaluateCommand, HoldCommand, SaveCommand, AgreeCommand>;

/// What a command leaves behind.
struct Answer {
  Progress progress;
  MetricMap metrics;                  ///< callback metrics
  bool epoch_over = false;            ///< TrainCommand: the data came to its end, or the rest of it is skipped
  std::vector<MetricMap> evaluation;  ///< EvaluateCommand: metrics of each loader
  bool saw_batches = true;            ///< EvaluateCommand: a batch at least
  std::vector<std::string> said;      ///< AgreeCommand: by each worker, by rank
};

class Script {
 public:
  struct promise_type {
    std::optional<Command> command;
    Answer answer;
    std::exception_ptr error;

    Script get_return_object() { return Script(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { error = std::current_exception(); }

    /// `Answer answer = co_yield command;`
    auto yield_value(Command next) {
      command = std::move(next);
      struct Awaiter {
        promise_type& promise;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<>) const noexcept {}
        Answer await_resume() const { return std::move(promise.answer); }
      };
      return Awaiter{*this};
    }
  };

  Script() = default;
  explicit Script(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Script(Script&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Script& operator=(Script&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Script() {
    if (handle_) handle_.destroy();
  }

  /// The first command, or nothing when the script has none. Throws what the script throws.
  std::optional<Command> start() { return next(); }
  /// Hands over the answer to the last command and returns the next one, or nothing at the end.
  std::optional<Command> resume(Answer answer) {
    handle_.promise().answer = std::move(answer);
    return next();
  }

 private:
  std::optional<Command> next() {
    handle_.promise().command.reset();
    handle_.resume();
    if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
    return std::move(handle_.promise().command);
  }

  std::coroutine_handle<promise_type> handle_;
};

}  // namespace troupe
