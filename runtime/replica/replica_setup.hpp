// What a replica is made from, and what it says about the data and to those who use it.
#pragma once

#include "troupe/modules/data_module.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/loops/facts.hpp"
#include "troupe/runtime/process/pulse.hpp"
#include "troupe/runtime/replica/curve_axis.hpp"

#include <torch/types.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// Where a replica's products go. Called on the replica's thread.
class ReplicaOutputs {
 public:
  virtual ~ReplicaOutputs() = default;
  virtual void record(Record record) = 0;
  /// A line of user code's, for stdout.
  virtual void print(std::string line) = 0;
  /// A line of the library's, for stderr.
  virtual void note(std::string line) = 0;
  /// User code asked for the end of the run.
  virtual void stop_requested(const std::string& reason) = 0;
};

struct ReplicaSetup {
  Stage stage = Stage::fit;
  std::function<std::shared_ptr<Module>()> make_module;  ///< called on the replica's thread
  HookSet overridden;                                    ///< of the module's static type
  /// The run's, resolved, with a seed and a number of threads.
  std::shared_ptr<const TrainerOptions> options = std::make_shared<const TrainerOptions>();
  std::vector<std::shared_ptr<Callback>> callbacks = {};  ///< of this replica
  torch::Device device = torch::kCPU;
  DataModulePtr datamodule;
  DataLoaders train_loaders;                     ///< given to the Trainer; they win over hooks
  DataLoaders eval_loaders;                      ///< of validation, or of the stage
  std::shared_ptr<const Checkpoint> checkpoint;  ///< to start from, or null
  bool weights_only = false;                     ///< take the model from the checkpoint and nothing else
  bool validates_beside = false;                 ///< a copy that validates beside the training and does nothing else
  std::filesystem::path run_dir = {};            ///< for files of predictions; empty: none are written
  bool keeps_predictions = true;                 ///< what predict_step returns, for take_predictions
  nlohmann::json run_identity = nullptr;         ///< `run` in the metadata of checkpoints
  CurveAxis curves = {};                         ///< of the run's folder, after the stages before
  std::shared_ptr<Peers> peers = nullptr;        ///< the other workers of the run; null: there are none
  /// The further devices among which a batch is divided (strategies dp and ddp2), and the module for each.
  std::vector<torch::Device> part_devices = {};
  std::function<std::shared_ptr<Module>()> make_part = nullptr;
  /// Taken around calls of the data module, which the workers of a process share; null if there is one worker.
  std::shared_ptr<std::mutex> data_mutex = nullptr;
  /// Where the replica says what it does; null: it has one of its own.
  std::shared_ptr<Pulse> pulse = nullptr;

  Place place() const { return peers ? peers->place() : Place{}; }
};

}  // namespace troupe
