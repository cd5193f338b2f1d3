// The keys of a checkpoint's metadata that one file writes and another reads. docs/checkpoint-format.md says what is
// behind each of all keys.
#pragma once

namespace troupe::metadata_key {

inline constexpr const char* callbacks = "callbacks";              ///< by Callback::state_key
inline constexpr const char* best_model_path = "best_model_path";  ///< in the state of a ModelCheckpoint
inline constexpr const char* datamodule = "datamodule";
inline constexpr const char* datamodule_hparams = "datamodule_hparams";
inline constexpr const char* hparams = "hparams";
inline constexpr const char* loop = "loop";  ///< the script's: RunState::loop_to_json, load_loop
inline constexpr const char* validated_batches = "validated_batches";        ///< in loop
inline constexpr const char* since_validation = "seconds_since_validation";  ///< in loop, if validation goes by time
inline constexpr const char* since_log = "seconds_since_log";                ///< in loop, if logging goes by time
inline constexpr const char* validations = "validations";                    ///< beside the training; in loop, too
inline constexpr const char* stops = "stops";                                ///< asked for; in loop
inline constexpr const char* latest_metrics = "latest_metrics";              ///< MetricBoard::latest
inline constexpr const char* validation_batches = "validation_batches";      ///< of CurveAxis
inline constexpr const char* optimizers = "optimizers";
inline constexpr const char* progress = "progress";
inline constexpr const char* global_step = "global_step";  ///< in progress
inline constexpr const char* run = "run";
inline constexpr const char* run_name = "name";  ///< in run
inline constexpr const char* saved_at = "saved_at";

}  // namespace troupe::metadata_key
