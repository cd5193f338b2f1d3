// A model out of a checkpoint, for use without a Trainer or as the start of another training.
//
//     auto model = load_from_checkpoint<Digits>("runs/digits/version_0/checkpoints/last.safetensors");
//     model->eval();
//     model->freeze();
//     auto digits = model->forward(images);
//
// Nothing in the file is executed. Any thread may call; the module belongs to the caller.
#pragma once

#include "troupe/modules/module.hpp"
#include "troupe/runtime/checkpoint/checkpoint.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"

#include <nlohmann/json.hpp>

#include <concepts>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Names and meanings are those of Lightning's load_from_checkpoint
/// (https://lightning.ai/docs/pytorch/stable/common/lightning_module.html).
struct LoadOptions {
  /// Hyper-parameters that win over those in the checkpoint, or that it lacks: `{{"hidden", 64}}`.
  nlohmann::json hparams = nlohmann::json::object();
  /// Every weight of the model must be in the checkpoint and the other way round, and so must every hyper-parameter of
  /// the model's. False: what is missing keeps the value that the constructor gave it, what is left over is passed
  /// over; shapes must fit all the same.
  bool strict = true;
  /// Where the model is put.
  torch::Device map_location = torch::kCPU;
  /// Where the names go that a load without `strict` passed over; may be null.
  IncompatibleKeys* incompatible_keys = nullptr;
};

/// Copies the weights at `path` into `module`: those of a checkpoint, or of any safetensors file (read_weights). Calls
/// the module's on_load_checkpoint first. Throws CheckpointError for a file that cannot be read, UsageError with the
/// names that are missing or left over, and shapes that differ; the weights are unchanged then.
void load_from_checkpoint(const std::filesystem::path& path, Module& module, const LoadOptions& options = {});

namespace load_detail {

/// Reads the file; the model that `make` builds from the hyper-parameters in it gets the weights. `known` are the names
/// of the hyper-parameters that the model has.
std::shared_ptr<Module> load(const std::filesystem::path& path, const LoadOptions& options,
                             const std::vector<std::string>* known,
                             const std::function<std::shared_ptr<Module>(const nlohmann::json& hparams)>& make);

}  // namespace load_detail

/// Builds an M as it was trained and gives it the weights. M is built from its `Options` where it has that member type
/// (a described struct, modules/options.hpp), from the JSON that save_hyperparameters got where a constructor takes
/// it, else by its default constructor.
///
/// Throws as the overload above, and UsageError for hyper-parameters that M does not know (naming the nearest) or that
/// the checkpoint lacks.
template <std::derived_from<Module> M>
std::shared_ptr<M> load_from_checkpoint(const std::filesystem::path& path, const LoadOptions& options = {}) {
  const std::vector<std::string>* known = nullptr;
  std::function<std::shared_ptr<Module>(const nlohmann::json&)> make;
  if constexpr (requires { requires Described<typename M::Options>; }) {
    static const std::vector<std::string> names = [] {
      std::vector<std::string> all;
      for (const auto& option : describe_options<typename M::Options>()) all.push_back(option.name);
      return all;
    }();
    known = &names;
    make = [](const nlohmann::json& hparams) {
      return std::make_shared<M>(options_from_json<typename M::Options>(hparams, "hparams"));
    };
  } else if constexpr (std::constructible_from<M, const nlohmann::json&>) {
    make = [](const nlohmann::json& hparams) { return std::make_shared<M>(hparams); };
  } else {
    static_assert(std::default_initializable<M>,
                  "load_from_checkpoint<M> builds M from M::Options, from a nlohmann::json or from nothing; build it "
                  "yourself and use load_from_checkpoint(path, module)");
    make = [](const nlohmann::json&) { return std::make_shared<M>(); };
  }
  return std::static_pointer_cast<M>(load_detail::load(path, options, known, make));
}

}  // namespace troupe
