#include "troupe/runtime/checkpoint/load_from_checkpoint.hpp"

#include "troupe/modules/nearest.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <algorithm>

namespace troupe {

namespace {

void load(const Checkpoint& checkpoint, Module& module, const LoadOptions& options) {
  module.on_load_checkpoint(checkpoint.metadata);
  auto keys = load_model_state(checkpoint, module, options.strict);
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
                     " is none of this model's; did you mean " + nearest(item.key(), known) + "?");
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

std::shared_ptr<Module> load_detail::load(
    const std::filesystem::path& path, const LoadOptions& options, const std::vector<std::string>* known,
    const std::function<std::shared_ptr<Module>(const nlohmann::json& hparams)>& make) {
  if (!options.hparams.is_object()) throw UsageError("LoadOptions::hparams is not a JSON object");
  const auto checkpoint = read_weights(path);
  const auto hparams = merged(checkpoint.metadata.value("hparams", nlohmann::json()), options.hparams);
  if (known) compare(hparams, *known, path, options.strict);
  auto module = make(hparams);
  troupe::load(checkpoint, *module, options);
  return module;
}

}  // namespace troupe
