#include "troupe/runtime/loops/run_state.hpp"

#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/runtime/checkpoint/callback_states.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"

#include <algorithm>
#include <chrono>
#include <typeinfo>

namespace troupe {

bool may_stop(const TrainerOptions& options, const Progress& progress) {
  return progress.epoch >= options.min_epochs.value_or(0) && progress.global_step >= options.min_steps.value_or(0);
}

void RunState::ask_to_stop(const StopRequest& request, const Monitor* monitor) {
  auto& asked = has_other_processes ? asked_stop : stop;
  StopRequest taken = request;
  taken.is_revocable = monitor != nullptr;
  const auto is_same = [&](const auto& standing) { return standing.first == monitor; };
  if (!taken.interrupt && std::ranges::none_of(standing_requests, is_same)) {
    standing_requests.emplace_back(monitor, taken);
  }
  if (!asked || (taken.interrupt && !asked->interrupt)) asked = std::move(taken);
}

void RunState::take_back_stop(const Monitor& monitor) {
  const bool is_taken_back =
      std::erase_if(standing_requests, [&](const auto& each) { return each.first == &monitor; }) > 0;
  auto& asked = has_other_processes ? asked_stop : stop;
  if (!is_taken_back || !asked || !asked->is_revocable) return;
  asked.reset();
  if (!standing_requests.empty()) asked = standing_requests.front().second;
}

bool RunState::stops_now() const {
  return stop && (stop->interrupt || may_stop(*options, progress));
}

namespace {

// Nothing that does not go by time.
std::optional<double> validation_seconds(const RunState& state) {
  const Interval& interval = state.options->val_check_interval;
  if (!interval.is_time() || !state.facts.has_evaluation) return std::nullopt;
  return std::chrono::duration<double>(interval.time()).count();
}

bool validates_in_this_epoch(const RunState& state) {
  return (state.progress.epoch + 1) % state.options->check_val_every_n_epoch.value_or(1) == 0;
}

std::optional<double> log_seconds(const RunState& state) {
  const auto time = log_every_of(*state.options);
  if (!time) return std::nullopt;
  return std::chrono::duration<double>(*time).count();
}

}  // namespace

void RunState::start_times() {
  validated_at = logged_at = info.seconds();
  if (!checkpoint || (!validation_seconds(*this) && !log_seconds(*this))) return;
  const StateReader loop = StateReader(checkpoint->metadata, "the checkpoint").object(metadata_key::loop);
  const auto passed = [&](const char* key) { return loop.has(key) ? std::max(0.0, loop.number(key)) : 0; };
  validated_at -= passed(metadata_key::since_validation);
  logged_at -= passed(metadata_key::since_log);
}

void RunState::look_at_times() {
  const double now = info.seconds();
  const auto is_over = [&](const std::optional<double>& every, double since) {
    return info.decides_times && every && now - since >= *every;
  };
  time_to_validate = is_over(validation_seconds(*this), validated_at) && validates_in_this_epoch(*this) &&
                     last_validation() != progress.total_batches;
  time_to_log = is_over(log_seconds(*this), logged_at);
}

std::optional<double> RunState::next_time() {
  if (stage != Stage::fit || !info.decides_times) return std::nullopt;
  std::optional<double> next;
  const auto add = [&](const std::optional<double>& time) {
    if (time && (!next || *time < *next)) next = time;
  };
  const auto validation = validation_seconds(*this);
  if (validation && validates_in_this_epoch(*this)) add(validated_at + *validation);
  if (const auto every = log_seconds(*this)) add(logged_at + *every);
  for (const auto& monitor : monitors) add(ask(*monitor, "next_time", [&] { return monitor->next_time(); }));
  return next;
}

bool RunState::has_reached_limit() const {
  const int64_t max_epochs = options->max_epochs.value_or(1000);
  return (max_epochs >= 0 && progress.epoch >= max_epochs) ||
         (options->max_steps >= 0 && progress.global_step >= options->max_steps);
}

std::string RunState::place() const {
  return asked_callback ? type_name(typeid(*asked_callback)) + "::" + asked_call : "coordinator";
}

namespace {

// A monitor's stands for whoever goes on with that monitor. Anybody else's has done what it was for once the run ends
// with it, so it is there only while the minima put it off.
nlohmann::json stops_to_json(const RunState& state) {
  auto stops = nlohmann::json::array();
  std::optional<std::string> of_others;
  for (const auto& [monitor, request] : state.standing_requests) {
    if (!monitor) {
      of_others = request.reason;
    } else if (const auto key = monitor->state_key(); !key.empty()) {
      stops.push_back({{"monitor", key}, {"reason", request.reason}});
    }
  }
  // Of another process.
  if (!of_others && state.stop && !state.stop->is_revocable && !state.stop->interrupt) of_others = state.stop->reason;
  if (of_others && !may_stop(*state.options, state.progress)) stops.push_back({{"reason", *of_others}});
  return stops;
}

}  // namespace

nlohmann::json RunState::loop_to_json() const {
  nlohmann::json loop = {{metadata_key::validated_batches, validated_batches}};
  if (auto stops = stops_to_json(*this); !stops.empty()) loop[metadata_key::stops] = std::move(stops);
  // What has passed, so that a run which goes on has the rest of it before it.
  if (validation_seconds(*this)) loop[metadata_key::since_validation] = info.seconds() - validated_at;
  if (log_seconds(*this)) loop[metadata_key::since_log] = info.seconds() - logged_at;
  for (const auto& pending : validations) {
    if (pending.is_sanity_check) continue;
    nlohmann::json one = {{metadata_key::progress, to_json(pending.progress)},
                          {"metrics", metrics_to_json(pending.metrics)}};
    if (const auto& end = pending.epoch_end) {
      one["epoch_end"] = {{metadata_key::progress, to_json(end->finished)}, {"metrics", metrics_to_json(end->metrics)}};
    }
    loop[metadata_key::validations].push_back(std::move(one));
  }
  return loop;
}

void RunState::load_loop(const nlohmann::json& metadata) {
  const StateReader checkpoint(metadata, "the checkpoint");
  validated_batches = checkpoint.object(metadata_key::loop).count(metadata_key::validated_batches, -1);
}

void RunState::load_validations(const nlohmann::json& metadata) {
  const StateReader loop = StateReader(metadata, "the checkpoint").object(metadata_key::loop);
  if (!loop.has(metadata_key::validations)) return;
  std::deque<PendingValidation> found;
  const auto metrics = [](const StateReader& reader) { return metrics_from_json(reader.object("metrics").json()); };
  for (const auto& one : loop.objects(metadata_key::validations)) {
    found.push_back({progress_in(one.object(metadata_key::progress)), metrics(one)});
    if (!one.has("epoch_end")) continue;
    const StateReader end = one.object("epoch_end");
    found.back().epoch_end = {progress_in(end.object(metadata_key::progress)), metrics(end)};
  }
  if (!metadata.contains(metadata_key::validations) || metadata.at(metadata_key::validations).size() != found.size()) {
    loop.refuse("validations has " + std::to_string(found.size()) + " entries, of which not all have their weights");
  }
  validations = std::move(found);
}

void RunState::load_stops(const nlohmann::json& metadata) {
  const StateReader loop = StateReader(metadata, "the checkpoint").object(metadata_key::loop);
  if (!loop.has(metadata_key::stops)) return;
  for (const auto& stop : loop.objects(metadata_key::stops)) {
    const auto reason = shown(stop.text("reason"));
    if (!stop.has("monitor")) {
      ask_to_stop({reason});
      continue;
    }
    const auto key = stop.text("monitor");
    for (const auto& monitor : monitors) {
      if (monitor->state_key() != key) continue;  // which has its options
      ask_to_stop(
          {reason + " when the checkpoint was written; to go on, change or leave out " + type_name(typeid(*monitor))},
          monitor.get());
    }
  }
}

nlohmann::json RunState::monitor_states() {
  auto states = nlohmann::json::object();
  for (const auto& monitor : monitors) {
    ask(*monitor, "state_dict", [&] {
      const auto key = monitor->state_key();
      if (key.empty()) return;
      const bool is_held = held_monitors && held_monitors->contains(key);
      states[key] = is_held ? held_monitors->at(key) : monitor->state_dict();
    });
  }
  return states;
}

void RunState::load_monitor_states(const nlohmann::json& states) {
  const auto running = state_keys({monitors.begin(), monitors.end()});
  for (const auto& monitor : monitors) {
    ask(*monitor, "load_state_dict", [&] {
      const auto saved = saved_key(states, monitor->state_key(), running);
      if (!saved.empty()) monitor->load_state_dict(states[saved]);
    });
  }
}

}  // namespace troupe
