#include "troupe/modules/callbacks/timer.hpp"

#include "troupe/base/state_reader.hpp"
#include "troupe/modules/callbacks/state_key.hpp"
#include "troupe/modules/module.hpp"

#include <cmath>

namespace troupe {

namespace {

constexpr Stage stages[] = {Stage::fit, Stage::validate, Stage::test, Stage::predict};

std::size_t place(Stage stage) {
  return static_cast<std::size_t>(std::ranges::find(stages, stage) - std::begin(stages));
}

}  // namespace

Timer::Timer(TimerOptions options) : options_(std::move(options)) {
  if (options_.duration && options_.duration->count() < 0) throw UsageError("Timer: the duration is negative");
}

std::chrono::duration<double> Timer::time_elapsed(Stage stage) const {
  std::chrono::duration<double> elapsed(before_[place(stage)]);
  if (start_ && stage == stage_) elapsed += Clock::now() - *start_;
  return elapsed;
}

std::optional<std::chrono::duration<double>> Timer::time_remaining() const {
  if (!options_.duration) return std::nullopt;
  return *options_.duration - time_elapsed();
}

std::string Timer::state_key() const {
  const auto milliseconds = [](const TimerOptions& options) {
    return options.duration ? std::optional<int64_t>(options.duration->count()) : std::nullopt;
  };
  const TimerOptions usual;
  return StateKey("Timer")
      .add("duration", milliseconds(options_), milliseconds(usual))
      .add("interval", name_of(options_.interval), name_of(usual.interval))
      .text();
}

nlohmann::json Timer::state_dict() const {
  nlohmann::json elapsed = nlohmann::json::object();
  for (const Stage stage : stages) elapsed[std::string(to_string(stage))] = time_elapsed(stage).count();
  return {{"time_elapsed", elapsed}};
}

void Timer::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, "the checkpoint's state of Timer");
  const auto elapsed = reader.object("time_elapsed");
  double loaded[4] = {};
  for (const Stage stage : stages) {
    const std::string name(to_string(stage));
    loaded[place(stage)] = elapsed.number(name.c_str());
    if (loaded[place(stage)] < 0) elapsed.refuse("time_elapsed." + name + " is negative");
  }
  std::ranges::copy(loaded, before_);
  if (start_) start_ = Clock::now();
}

void Timer::setup(RunContext&, Module&, Stage stage) {
  stage_ = stage;
  start_ = Clock::now();
}

void Timer::teardown(RunContext&, Module&, Stage stage) {
  if (!start_ || stage != stage_) return;
  before_[place(stage)] = time_elapsed(stage).count();
  start_.reset();
}

// A run that goes on may have no time left.
void Timer::on_train_start(RunContext& run, Module&) {
  if (before_[place(Stage::fit)] > 0) check(run);
}

void Timer::on_train_batch_end(RunContext& run, Module&, const StepOutput&, const Batch&, int64_t) {
  if (options_.interval == TimerInterval::step) check(run);
}

void Timer::on_train_epoch_end(RunContext& run, Module&) {
  check(run);
}

void Timer::check(RunContext& run) const {
  if (!options_.duration || time_elapsed() < *options_.duration) return;
  run.request_stop("Timer: training took " + std::to_string(std::llround(time_elapsed().count())) + " s");
}

}  // namespace troupe
