#include "troupe/runtime/checkpoint/load_from_checkpoint.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"
#include "troupe/runtime/weights/any_weights.hpp"

#include <algorithm>

namespace troupe {

namespace {

void load(const Checkpoint& checkpoint, Module& module, const LoadOptions& options) {
  module.on_load_checkpoint(checkpoint.metadata);
  auto keys = load_model_state(checkpoint, module, options.strict && module.strict_loading);
  if (options.incompatible_keys) *options.incompatible_keys = std::move(keys);
  module.to(options.map_location);
}

nlohmann::json merged(const nlohmann::json& saved, const nlohmann::json& given) {
  nlohmann::json hparams = saved.is_object() ? saved : nlohmann::json::object();
  if (given.is_object()) hparams.update(given);
  return hparams;
}

void compare(const nlohmann::json& hparams, const std::vector<std::string>& known, const std::filesystem::path& path,
             bool strict) {
  for (const auto& item : hparams.items()) {
    if (std::ranges::find(known, item.key()) != known.end()) continue;
    throw UsageError("the hyper-parameter '" + shown(item.key()) + "' in " + shown(path.string()) +
                     " is none of this class's; did you mean " + nearest(item.key(), known) + "?");
  }
  for (const auto& name : known) {
    if (!strict || hparams.contains(name)) continue;
    throw UsageError("the hyper-parameter '" + name + "' is missing in " + shown(path.string()) +
                     ": give it in LoadOptions::hparams, or load with strict = false to take its default");
  }
}

}  // namespace

void load_from_checkpoint(const std::filesystem::path& path, Module& module, const LoadOptions& options) {
  load(read_weights(path), module, options);
}

namespace load_detail {

namespace {

template <class Base>
std::shared_ptr<Base> build(const std::filesystem::path& path, const nlohmann::json& saved, const LoadOptions& options,
                            bool strict, const Recipe<Base>& recipe) {
  if (!options.hparams.is_object()) throw UsageError("LoadOptions::hparams is not a JSON object");
  const auto hparams = merged(saved, options.hparams);
  if (recipe.known) compare(hparams, *recipe.known, path, strict);
  return recipe.make(hparams);
}

}  // namespace

std::shared_ptr<Module> load(const std::filesystem::path& path, const LoadOptions& options,
                             const Recipe<Module>& recipe) {
  const auto checkpoint = read_weights(path);
  const auto saved = checkpoint.metadata.value(metadata_key::hparams, nlohmann::json());
  const bool are_saved = checkpoint.metadata.contains(metadata_key::hparams);  // not with weights alone
  auto module = build(path, saved, options, options.strict && are_saved, recipe);
  troupe::load(checkpoint, *module, options);
  return module;
}

std::shared_ptr<DataModule> load(const std::filesystem::path& path, const LoadOptions& options,
                                 const Recipe<DataModule>& recipe) {
  const auto checkpoint = read_checkpoint(path);
  const auto saved = checkpoint.metadata.value(metadata_key::datamodule_hparams, nlohmann::json());
  auto data = build(path, saved, options, options.strict, recipe);
  const auto state = checkpoint.metadata.find(metadata_key::datamodule);
  if (state != checkpoint.metadata.end()) data->load_state_dict(*state);
  return data;
}

}  // namespace load_detail

}  // namespace troupe
