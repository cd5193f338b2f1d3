#include "troupe/runtime/live/live_message.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/options/choices.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/report/run_status.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

namespace troupe::live {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* what_it_is = "the message";
constexpr std::size_t most_values = 10'000;  // of a message's list or object that has no end of its own

constexpr std::array<std::string_view, 5> activity_names = {"sanity_check", "train", "validate", "test", "predict"};

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json metrics_to_json(const MetricMap& metrics) {
  auto json = Json::object();
  for (const auto& [name, value] : metrics) json[valid_utf8(name)] = number_to_json(value);
  return json;
}

const nlohmann::json& object_at(const nlohmann::json& json, const char* key, const StateReader& reader) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_object() || found->size() > most_values) {
    reader.refuse(std::string(key) + " is not an object");
  }
  return *found;
}

MetricMap metrics_at(const nlohmann::json& json, const char* key, const StateReader& reader) {
  MetricMap metrics;
  for (const auto& [name, value] : object_at(json, key, reader).items()) {
    const auto number = number_from_json(value);
    if (!number) reader.refuse(std::string(key) + "." + shown(name) + " is not a number");
    metrics[name] = *number;
  }
  return metrics;
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// --- Events ---

Json progress_and_metrics(const char* name, const Progress& progress, const MetricMap& metrics) {
  return {{"kind", "event"}, {"event", name}, {"progress", to_json(progress)}, {"metrics", metrics_to_json(metrics)}};
}

Json to_json(const RunStarted& event) {
  return {{"kind", "event"},
          {"event", "run_started"},
          {"stage", to_string(event.stage)},
          {"run_dir", valid_utf8(event.run_dir.string())}};
}
Json to_json(const TrainBatchEnded& event) {
  return progress_and_metrics("train_batch_ended", event.progress, event.metrics);
}
Json to_json(const ValidationEnded& event) {
  return progress_and_metrics("validation_ended", event.progress, event.metrics);
}
Json to_json(const TrainEpochEnded& event) {
  return progress_and_metrics("train_epoch_ended", event.progress, event.metrics);
}
Json to_json(const CheckpointSaved& event) {
  return {{"kind", "event"}, {"event", "checkpoint_saved"}, {"path", valid_utf8(event.path.string())}};
}
Json to_json(const RunEnded& event) {
  Json json = progress_and_metrics("run_ended", event.progress, event.metrics);
  json["reason"] = valid_utf8(event.reason);
  json["failed"] = event.failed;
  return json;
}

Stage stage_in(const StateReader& reader) {
  const auto name = reader.text("stage");
  for (const Stage stage : {Stage::fit, Stage::validate, Stage::test, Stage::predict}) {
    if (name == to_string(stage)) return stage;
  }
  reader.refuse("stage is '" + shown(name) + "', which no run has");
}

std::optional<Event> event_in(const nlohmann::json& json, const StateReader& reader) {
  const auto name = reader.text("event");
  const auto progress = [&] { return progress_in(reader.object("progress")); };
  const auto metrics = [&] { return metrics_at(json, "metrics", reader); };
  if (name == "run_started") return RunStarted{stage_in(reader), reader.text("run_dir")};
  if (name == "train_batch_ended") return TrainBatchEnded{progress(), metrics()};
  if (name == "validation_ended") return ValidationEnded{progress(), metrics()};
  if (name == "train_epoch_ended") return TrainEpochEnded{progress(), metrics()};
  if (name == "checkpoint_saved") return CheckpointSaved{reader.text("path")};
  if (name == "run_ended") return RunEnded{progress(), metrics(), reader.text("reason"), reader.flag("failed")};
  return std::nullopt;
}

// --- The others ---

Json to_json(const Hello& hello) {
  return {{"kind", "hello"},
          {"protocol", hello.protocol},
          {"troupe", hello.troupe},
          {"run", valid_utf8(hello.run)},
          {"stage", hello.stage},
          {"pid", hello.pid},
          {"control", hello.permits_control}};
}

Hello hello_in(const StateReader& reader) {
  return {reader.count("protocol", 1), reader.text("troupe"), reader.text("run"),
          reader.text("stage"),        reader.count("pid"),   reader.flag("control")};
}

Json to_json(const ProgressState& state) {
  auto metrics = Json::array();
  for (const auto& [name, value] : state.metrics) metrics.push_back({valid_utf8(name), number_to_json(value)});
  return {{"kind", "progress"},
          {"activity", activity_names[static_cast<std::size_t>(state.activity)]},
          {"epoch", state.epoch},
          {"max_epochs", or_null(state.max_epochs)},
          {"batch", state.batch},
          {"total_batches", or_null(state.total_batches)},
          {"elapsed", state.elapsed},
          {"batches_per_second", number_to_json(state.batches_per_second)},
          {"run_seconds_left", or_null(state.run_seconds_left)},
          {"metrics", std::move(metrics)}};
}

double number_at(const nlohmann::json& json, const char* key, const StateReader& reader) {
  const auto found = json.find(key);
  const auto number = found == json.end() ? std::nullopt : number_from_json(*found);
  if (!number) reader.refuse(std::string(key) + " is not a number");
  return *number;
}

ProgressState progress_state_in(const nlohmann::json& json, const StateReader& reader) {
  ProgressState state;
  const auto activity = std::ranges::find(activity_names, reader.text("activity"));
  if (activity == activity_names.end()) reader.refuse("activity is none that a run has");
  state.activity = static_cast<Activity>(activity - activity_names.begin());
  state.epoch = reader.count("epoch");
  state.max_epochs = reader.optional_count("max_epochs");
  state.batch = reader.count("batch");
  state.total_batches = reader.optional_count("total_batches");
  state.elapsed = reader.number("elapsed");
  state.batches_per_second = number_at(json, "batches_per_second", reader);
  state.run_seconds_left = reader.optional_number("run_seconds_left");
  for (const auto& metric : reader.list("metrics")) {
    const auto number = metric.is_array() && metric.size() == 2 ? number_from_json(metric[1]) : std::nullopt;
    if (!number || !metric[0].is_string()) reader.refuse("metrics has something that is no name with a number");
    state.metrics.emplace_back(metric[0].get<std::string>(), *number);
  }
  return state;
}

Json to_json(const State& state) {
  auto curves = Json::object();
  for (const auto& [name, values] : state.curves) {
    auto& curve = curves[valid_utf8(name)] = Json::array();
    for (const double value : values) curve.push_back(Json(number_to_json(value)));
  }
  auto workers = Json::array();
  for (const auto& worker : state.workers) workers.push_back(valid_utf8(worker));
  Json json = {{"kind", "state"},
               {"run", valid_utf8(state.run)},
               {"stage", state.stage},
               {"status", name_of(state.status)},
               {"message", valid_utf8(state.message)},
               {"host", valid_utf8(state.host)},
               {"pid", state.pid},
               {"devices", state.devices},
               {"world_size", state.world_size},
               {"started", state.started},
               {"updated", state.updated},
               {"progress", troupe::to_json(state.progress)},
               {"total_batches", or_null(state.total_batches)},
               {"seconds_left", or_null(state.seconds_left)},
               {"metrics", metrics_to_json(state.metrics)},
               {"curves", std::move(curves)},
               {"phases", nullptr},
               {"workers", std::move(workers)},
               {"warnings", state.warnings},
               {"latest_warning", valid_utf8(state.latest_warning)},
               {"checkpoints", state.checkpoints},
               {"best_checkpoint", valid_utf8(state.best_checkpoint)}};
  if (state.phases) json["phases"] = troupe::to_json(*state.phases);
  return json;
}

std::vector<double> curve_in(const std::string& name, const nlohmann::json& values, const StateReader& reader) {
  std::vector<double> curve;
  if (!values.is_array() || values.size() > most_values) reader.refuse("curves." + shown(name) + " is no list");
  for (const auto& value : values) {
    const auto number = number_from_json(value);
    if (!number) reader.refuse("curves." + shown(name) + " has something that is no number");
    curve.push_back(*number);
  }
  return curve;
}

State state_in(const nlohmann::json& json, const StateReader& reader) {
  State state;
  state.run = reader.text("run");
  state.stage = reader.text("stage");
  state.status = run_status_in(reader);
  state.message = reader.text("message");
  state.host = reader.text("host");
  state.pid = reader.count("pid");
  state.devices = reader.texts("devices");
  state.world_size = reader.count("world_size", 1);
  state.started = reader.number("started");
  state.updated = reader.number("updated");
  state.progress = progress_in(reader.object("progress"));
  state.total_batches = reader.optional_count("total_batches");
  state.seconds_left = reader.optional_number("seconds_left");
  state.metrics = metrics_at(json, "metrics", reader);
  for (const auto& [name, values] : object_at(json, "curves", reader).items()) {
    state.curves.emplace_back(name, curve_in(name, values, reader));
  }
  if (const auto phases = json.find("phases"); phases != json.end() && !phases->is_null()) {
    state.phases = phase_report_from_json(*phases, "the message's phases");
  }
  state.workers = reader.texts("workers");
  state.warnings = reader.count("warnings");
  state.latest_warning = reader.text("latest_warning");
  state.checkpoints = reader.count("checkpoints");
  state.best_checkpoint = reader.text("best_checkpoint");
  return state;
}

Json to_json(const RequestAnswer& answer) {
  return {{"kind", "answer"}, {"taken", answer.is_taken}, {"text", valid_utf8(answer.text)}};
}

Json to_json(const Event& event) {
  return std::visit([](const auto& concrete) { return to_json(concrete); }, event);
}

// --- Requests ---

Json to_json(const Watch& watch) {
  auto what = Json::array();
  if (watch.state) what.push_back("state");
  if (watch.progress) what.push_back("progress");
  if (watch.events) what.push_back("events");
  if (watch.batches) what.push_back("batches");
  return {{"do", "watch"}, {"what", std::move(what)}, {"control", watch.control}};
}
Json to_json(const StopRunRequest& stop) {
  return {{"do", "stop"}, {"reason", valid_utf8(stop.reason)}};
}
Json to_json(const CheckpointRequest&) {
  return {{"do", "checkpoint"}};
}
Json to_json(const ValidateRequest&) {
  return {{"do", "validate"}};
}
Json to_json(const SetRateRequest& set) {
  return {{"do", "set_lr"}, {"lr", number_to_json(set.lr)}};
}
Json to_json(const RefusedRequest&) {
  return Json::object();
}

Watch watch_in(const StateReader& reader) {
  Watch watch;
  for (const auto& what : reader.texts("what")) {
    if (what == "state") {
      watch.state = true;
    } else if (what == "progress") {
      watch.progress = true;
    } else if (what == "events") {
      watch.events = true;
    } else if (what == "batches") {
      watch.batches = true;
    } else {
      reader.refuse("what has '" + shown(what) + "'; there are state, progress, events and batches");
    }
  }
  if (reader.has("control")) watch.control = reader.flag("control");
  return watch;
}

void check_rate(double lr, const std::string& text) {
  if (!std::isfinite(lr)) throw UsageError("a learning rate of " + text + " is not finite; use a number such as 0.001");
  if (lr < 0) throw UsageError("a learning rate of " + text + " is negative; use 0 or more");
}

Request request_in(const std::string& word, const StateReader& reader, const nlohmann::json& json) {
  if (word == "watch") return watch_in(reader);
  if (word == "stop") return StopRunRequest{reader.has("reason") ? reader.text("reason") : ""};
  if (word == "checkpoint") return CheckpointRequest{};
  if (word == "validate") return ValidateRequest{};
  if (word == "set_lr") {
    const auto given = json.find("lr");
    if (given == json.end()) reader.refuse("lr is missing");
    const auto lr = number_from_json(*given);
    if (!lr) throw UsageError("a learning rate of " + shown(given->dump()) + " is no number; use one such as 0.001");
    check_rate(*lr, given->dump());
    return SetRateRequest{*lr};
  }
  throw UsageError("'" + shown(word) + "' is nothing that a run does; did you mean " + nearest(word, request_words()) +
                   "? (" + joined(request_words()) + ")");
}

}  // namespace

const std::vector<std::string>& request_words() {
  static const std::vector<std::string> words = {"watch", "stop", "checkpoint", "validate", "set_lr"};
  return words;
}

Request request_from_line(std::string_view line) {
  const auto json = parse_strict_json(line);
  const StateReader reader(json, "the request");
  const auto word = reader.text("do");
  try {
    return request_in(word, reader, json);
  } catch (const UsageError& wrong) {
    return RefusedRequest{wrong.what()};
  }
}

std::string line_of(const Request& request) {
  return text_of(std::visit([](const auto& concrete) { return to_json(concrete); }, request));
}

double rate_from_text(const std::string& text) {
  const auto lr = number_from_text<double>(text);
  if (!lr) throw UsageError("a learning rate of '" + shown(text) + "' is no number; use one such as 0.001");
  check_rate(*lr, shown(text));
  return *lr;
}

std::string line_of(const Message& message) {
  return text_of(std::visit([](const auto& concrete) { return to_json(concrete); }, message));
}

std::optional<Message> message_from_line(std::string_view line) {
  const auto json = parse_strict_json(line);
  const StateReader reader(json, what_it_is);
  const auto kind = reader.text("kind");
  if (kind == "hello") return hello_in(reader);
  if (kind == "state") return state_in(json, reader);
  if (kind == "progress") return progress_state_in(json, reader);
  if (kind == "answer") return RequestAnswer{reader.flag("taken"), reader.text("text")};
  if (kind != "event") return std::nullopt;
  auto event = event_in(json, reader);
  return event ? std::optional<Message>(std::move(*event)) : std::nullopt;
}

}  // namespace troupe::live
