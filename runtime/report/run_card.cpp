#include "troupe/runtime/report/run_card.hpp"

#include "troupe/base/failure_json.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/checkpoint/progress_json.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/report/run_status.hpp"

#include <algorithm>

namespace troupe {

namespace {

constexpr int64_t kCardFormat = 1;
constexpr std::uintmax_t kLargestCard = std::uintmax_t{16} << 20;

std::vector<std::string> valid_texts(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const auto& text : texts) out.push_back(valid_utf8(text));
  return out;
}

nlohmann::json environment_to_json(const RunEnvironment& environment) {
  return {{"host", valid_utf8(environment.host)},
          {"system", valid_utf8(environment.system)},
          {"processor", valid_utf8(environment.processor)},
          {"devices", valid_texts(environment.devices)},
          {"world_size", environment.world_size},
          {"pid", environment.pid},
          {"troupe", environment.troupe},
          {"libtorch", environment.libtorch},
          {"compiler", environment.compiler},
          {"cuda", environment.cuda},
          {"git_commit", valid_utf8(environment.git_commit)},
          {"git_is_dirty", environment.git_is_dirty}};
}

RunEnvironment environment_in(const StateReader& reader) {
  RunEnvironment environment;
  environment.host = reader.text("host");
  environment.system = reader.text("system");
  environment.processor = reader.text("processor");
  environment.devices = reader.texts("devices");
  environment.world_size = reader.count("world_size", 1);
  environment.pid = reader.count("pid");
  environment.troupe = reader.text("troupe");
  environment.libtorch = reader.text("libtorch");
  environment.compiler = reader.text("compiler");
  environment.cuda = reader.text("cuda");
  environment.git_commit = reader.text("git_commit");
  environment.git_is_dirty = reader.flag("git_is_dirty");
  return environment;
}

nlohmann::json owner_to_json(const RunOwner& owner) {
  return {{"pid", owner.pid},
          {"machine", owner.machine},
          {"processes", owner.processes},
          {"began", owner.began},
          {"holds_lock", owner.holds_lock}};
}

RunOwner owner_in(const StateReader& reader) {
  return {reader.count("pid"), reader.text("machine"), reader.text("processes"), reader.count("began"),
          reader.flag("holds_lock")};
}

nlohmann::json layers_to_json(const std::vector<ModelRecord::Layer>& layers) {
  auto json = nlohmann::json::array();
  for (const auto& layer : layers) {
    json.push_back({{"name", valid_utf8(layer.name)},
                    {"type", valid_utf8(layer.type)},
                    {"in", layer.in},
                    {"out", layer.out},
                    {"parameters", layer.parameters}});
  }
  return json;
}

std::vector<ModelRecord::Layer> layers_in(const StateReader& reader) {
  std::vector<ModelRecord::Layer> layers;
  for (const auto& layer : reader.objects("layers")) {
    layers.push_back(
        {layer.text("name"), layer.text("type"), layer.text("in"), layer.text("out"), layer.count("parameters")});
  }
  return layers;
}

nlohmann::json object_in(const nlohmann::json& json, const char* key, const StateReader& reader) {
  if (!json.contains(key) || !json[key].is_object()) reader.refuse(std::string(key) + " is not an object");
  return json[key];
}

MetricMap metrics_in(const nlohmann::json& json, const StateReader& reader) {
  MetricMap metrics;
  const auto saved = object_in(json, "metrics", reader);  // items() refers to it
  for (const auto& [name, value] : saved.items()) {
    const auto number = number_from_json(value);
    if (!number) reader.refuse("metrics." + shown(name) + " is not a number");
    metrics[name] = *number;
  }
  return metrics;
}

std::string text_of_card(const std::filesystem::path& path) try {
  const InputFile file(path);
  if (file.size() > kLargestCard) {
    throw UsageError(path.string() + " has " + std::to_string(file.size()) + " bytes, which is no run's card");
  }
  return file.read_all();
} catch (const FileError& error) {
  throw UsageError("cannot read " + path.string() + ": " + error.code().message());
}

/// What a process that crashed has left in failure.json.
std::optional<Failure> crash_in(const std::filesystem::path& folder) {
  const auto path = folder / "failure.json";
  try {
    const auto json = parse_strict_json(text_of_card(path));
    return failure_in(StateReader(json, path.string()));
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

/// As the run would have said it: its host is no news if there is one process.
std::string sentence_of(Failure failure, const RunEnvironment& environment) {
  if (environment.world_size == 1) failure.host.clear();
  return failure.describe();
}

}  // namespace

nlohmann::json to_json(const RunCard& card) {
  nlohmann::json json = {{"format", kCardFormat},
                         {"id", card.id},
                         {"name", valid_utf8(card.name)},
                         {"version", valid_utf8(card.version)},
                         {"status", name_of(card.status)},
                         {"stage", card.stage},
                         {"message", valid_utf8(card.message)},
                         {"started", card.started},
                         {"updated", card.updated},
                         {"ended", card.ended ? nlohmann::json(*card.ended) : nlohmann::json()},
                         {"command", valid_texts(card.command)},
                         {"options", card.options},
                         {"defaults", card.defaults},
                         {"environment", environment_to_json(card.environment)},
                         {"progress", to_json(card.progress)},
                         {"total_batches", card.total_batches ? nlohmann::json(*card.total_batches) : nlohmann::json()},
                         {"seconds_left", card.seconds_left ? nlohmann::json(*card.seconds_left) : nlohmann::json()},
                         {"metrics", nlohmann::json::object()},
                         {"layers", layers_to_json(card.model.layers)},
                         {"parameters", card.model.parameters},
                         {"trainable_parameters", card.model.trainable_parameters},
                         {"checkpoints", nlohmann::json::array()},
                         {"best_checkpoint", valid_utf8(card.best_checkpoint.string())},
                         {"phases", nlohmann::json::array()},
                         {"warnings", valid_texts(card.warnings)},
                         {"more_warnings", card.more_warnings},
                         {"failure", nullptr},
                         {"owner", owner_to_json(card.owner)},
                         {"findings", nlohmann::json::array()}};
  for (const auto& [name, value] : card.metrics) json["metrics"][valid_utf8(name)] = number_to_json(value);
  for (const auto& path : card.checkpoints) json["checkpoints"].push_back(valid_utf8(path.string()));
  for (const auto& report : card.phases) json["phases"].push_back(to_json(report));
  if (card.failure) json["failure"] = to_json(*card.failure);
  for (const auto& finding : card.findings) json["findings"].push_back(to_json(finding));
  return json;
}

RunCard run_card_from_json(const nlohmann::json& json, const std::string& what) {
  const StateReader reader(json, what);
  (void)reader.count("format", kCardFormat, kCardFormat);
  RunCard card;
  card.id = reader.text("id");
  card.name = reader.text("name");
  card.version = reader.text("version");
  card.status = run_status_in(reader);
  card.stage = reader.text("stage");
  card.message = reader.text("message");
  card.started = reader.number("started");
  card.updated = reader.number("updated");
  card.ended = reader.optional_number("ended");
  card.command = reader.texts("command");
  card.options = object_in(json, "options", reader);
  card.defaults = object_in(json, "defaults", reader);
  card.environment = environment_in(reader.object("environment"));
  card.progress = progress_in(reader.object("progress"));
  card.total_batches = reader.optional_count("total_batches");
  if (json.contains("seconds_left")) card.seconds_left = reader.optional_number("seconds_left");
  card.metrics = metrics_in(json, reader);
  card.model.layers = layers_in(reader);
  card.model.parameters = reader.count("parameters");
  card.model.trainable_parameters = reader.count("trainable_parameters");
  for (auto& path : reader.texts("checkpoints")) card.checkpoints.emplace_back(std::move(path));
  card.best_checkpoint = reader.text("best_checkpoint");
  for (const auto& report : reader.list("phases")) card.phases.push_back(phase_report_from_json(report, what));
  card.warnings = reader.texts("warnings");
  card.more_warnings = reader.count("more_warnings");
  if (json.contains("failure") && !json["failure"].is_null()) {
    card.failure = failure_in(reader.object("failure"));
  }
  if (reader.has("owner")) card.owner = owner_in(reader.object("owner"));
  if (reader.has("findings")) {
    for (const auto& finding : reader.objects("findings")) card.findings.push_back(finding_in(finding));
  }
  return card;
}

RunCard stored_run_card(const std::filesystem::path& folder) {
  const auto path = folder / "run.json";
  const auto text = text_of_card(path);
  try {
    return run_card_from_json(parse_strict_json(text), path.string());
  } catch (const CheckpointError&) {
    throw;
  } catch (const UsageError& wrong) {
    throw UsageError(path.string() + ": " + wrong.what());
  }
}

bool notice_loss(RunCard& card, const std::filesystem::path& folder) {
  if (card.status != RunStatus::running) return false;
  if (state_of_owner(card.owner, card.environment.host, card.updated, folder) != OwnerState::is_gone) return false;
  card.status = RunStatus::failed;
  card.message = "its process is gone: it was killed, the machine went down, or the disk was full at its end";
  card.failure = crash_in(folder);
  if (card.failure) card.message = sentence_of(*card.failure, card.environment);
  return true;
}

bool is_lost(const RunCard& card) {
  return card.status == RunStatus::failed && !card.ended;
}

RunCard read_run_card(const std::filesystem::path& folder) {
  auto card = stored_run_card(folder);
  (void)notice_loss(card, folder);
  return card;
}

void write_run_card(const RunCard& card, const std::filesystem::path& folder) {
  const auto text = strict_json_text(to_json(card), "the run's card") + "\n";
  write_text_atomically(folder / "run.json", text);
}

}  // namespace troupe
