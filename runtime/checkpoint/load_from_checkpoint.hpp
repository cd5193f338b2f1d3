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
  /// the model's if the file is a run's checkpoint: with weights alone the class's defaults are taken. False: what is
  /// missing keeps the value that the constructor gave it, what is left over is passed over; shapes must fit all the
  /// same. The module's strict_loading = false has that for the weights too.
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

/// How to build a T from hyper-parameters, and the names of those that it has if they are known.
template <class Base>
struct Recipe {
  const std::vector<std::string>* known = nullptr;
  std::function<std::shared_ptr<Base>(const nlohmann::json& hparams)> make;
};

template <class Base, std::derived_from<Base> T>
Recipe<Base> recipe() {
  if constexpr (requires {
                  requires Described<typename T::Options>;
                  requires std::constructible_from<T, typename T::Options>;
                }) {
    static const std::vector<std::string> names = [] {
      std::vector<std::string> all;
      for (const auto& option : describe_options<typename T::Options>()) all.push_back(option.name);
      return all;
    }();
    return {&names, [](const nlohmann::json& hparams) {
              return std::make_shared<T>(options_from_json<typename T::Options>(hparams, "hparams"));
            }};
  } else if constexpr (std::constructible_from<T, const nlohmann::json&>) {
    return {nullptr, [](const nlohmann::json& hparams) { return std::make_shared<T>(hparams); }};
  } else {
    static_assert(std::default_initializable<T>,
                  "load_from_checkpoint<T> builds T from T::Options, from a nlohmann::json or from nothing; build it "
                  "yourself and use load_from_checkpoint(path, module)");
    return {nullptr, [](const nlohmann::json&) { return std::make_shared<T>(); }};
  }
}

/// Reads the file; what the recipe builds from the hyper-parameters in it gets its state.
std::shared_ptr<Module> load(const std::filesystem::path& path, const LoadOptions& options,
                             const Recipe<Module>& recipe);
std::shared_ptr<DataModule> load(const std::filesystem::path& path, const LoadOptions& options,
                                 const Recipe<DataModule>& recipe);

}  // namespace load_detail

/// Builds an M as it was trained and gives it the weights. M is built from its `Options` if it has that member type
/// (a described struct, modules/options/options.hpp), from the JSON that save_hyperparameters got where a constructor
/// takes it, else by its default constructor.
///
/// Throws as the overload above, and UsageError for hyper-parameters that M does not know (naming the nearest) or that
/// the checkpoint lacks.
template <std::derived_from<Module> M>
std::shared_ptr<M> load_from_checkpoint(const std::filesystem::path& path, const LoadOptions& options = {}) {
  return std::static_pointer_cast<M>(load_detail::load(path, options, load_detail::recipe<Module, M>()));
}

/// The same for a data module: from its hyper-parameters, then load_state_dict where the checkpoint has its state.
template <std::derived_from<DataModule> D>
std::shared_ptr<D> load_from_checkpoint(const std::filesystem::path& path, const LoadOptions& options = {}) {
  return std::static_pointer_cast<D>(load_detail::load(path, options, load_detail::recipe<DataModule, D>()));
}

}  // namespace troupe
