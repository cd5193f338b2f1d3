// What to change where something other than the step takes the time.
#pragma once

#include "troupe/modules/data_module.hpp"
#include "troupe/modules/optim/optimizers.hpp"
#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/runtime/report/phase_report.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// The options that phases depend on, as they are.
struct AdviceFacts {
  int64_t num_workers = 0;                     ///< of the loader with the fewest
  int64_t prefetch = 0;                        ///< of that loader
  std::string num_workers_option = "";         ///< as the program's users say it: "data.num_workers"; or empty
  std::string prefetch_option = "";            ///< likewise
  bool has_stream = false;                     ///< among the loaders
  int64_t processors = 1;                      ///< that one worker of the process may use
  std::optional<int64_t> every_n_train_steps;  ///< the smallest of the ModelCheckpoints'
  bool has_torch_optimizer = false;            ///< one that steps parameter by parameter
  TrainerOptions options;
};
/// `given`: the hyper-parameters of the data module and of the module, {"data": {...}, "model": {...}}, which are
/// options of a program made with troupe::main.
AdviceFacts advice_facts(const TrainerOptions& options, const DataLoaders& loaders, const Optimizers& optimizers,
                         const nlohmann::json& given = nlohmann::json::object());

/// "62 % waiting for data: raise data.num_workers from 0": the largest phase that is no part of the
/// step, if it takes more than a third of the time, or the optimizer, if it takes more than half; with the option that
/// would help and its present value. Empty if there is nothing to say, and for a stage of less than 1 s.
std::string advice_of(const PhaseReport& report, const AdviceFacts& facts);

}  // namespace troupe
