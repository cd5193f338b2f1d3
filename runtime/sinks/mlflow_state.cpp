#include "troupe/base/failure.hpp"
#include "troupe/base/random_id.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"

namespace troupe {

namespace {

constexpr int64_t kStateFormat = 1;
constexpr uint64_t kLargestState = 64 * 1024;

std::string text_of_state_file(const std::filesystem::path& path) {
  const InputFile file(path);
  if (file.size() > kLargestState) {
    throw UsageError(path.string() + " has " + std::to_string(file.size()) + " bytes, which no run writes");
  }
  return file.read_all();
}

MlflowState state_in(const StateReader& reader) {
  (void)reader.count("format", kStateFormat, kStateFormat);
  MlflowState state;
  state.address = http_address(reader.text("address"), "its address");
  state.experiment = reader.text("experiment");
  state.run_name = reader.text("run_name");
  state.key = reader.text("key");
  state.run_id = reader.text("run_id");
  state.started = reader.count("started");
  state.sent = reader.count("sent");
  if (!is_random_id(state.key)) reader.refuse("key is not 32 hexadecimal digits");
  if (!state.run_id.empty() && !is_mlflow_run_id(state.run_id)) reader.refuse("run_id is no run's id");
  const auto status = reader.text("status");
  state.status = mlflow_status(status);
  if (!status.empty() && !state.status) reader.refuse("status is '" + shown(status) + "', which no run has");
  return state;
}

}  // namespace

std::optional<MlflowState> read_mlflow_state(const std::filesystem::path& run_folder) {
  const auto path = run_folder / "mlflow.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  const auto text = text_of_state_file(path);
  try {
    const auto json = parse_strict_json(text);
    return state_in(StateReader(json, path.string()));
  } catch (const CheckpointError&) {
    throw;
  } catch (const UsageError& wrong) {
    throw UsageError(path.string() + ": " + wrong.what());
  }
}

void write_mlflow_state(const MlflowState& state, const std::filesystem::path& run_folder) {
  const nlohmann::json json = {
      {"format", kStateFormat},     {"address", state.address}, {"experiment", state.experiment},
      {"run_name", state.run_name}, {"key", state.key},         {"run_id", state.run_id},
      {"started", state.started},   {"sent", state.sent},       {"status", state.status ? name_of(*state.status) : ""}};
  const auto text = strict_json_text(json, "the run's state at MLflow") + "\n";
  write_text_atomically(run_folder / "mlflow.json", text);
}

}  // namespace troupe
