#include "troupe/modules/options/hyperparameters.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

namespace troupe {

namespace {

std::vector<std::string> names_of(const nlohmann::json& object) {
  std::vector<std::string> names;
  for (const auto& item : object.items()) names.push_back(item.key());
  return names;
}

void merge(nlohmann::json& into, const nlohmann::json& from) {
  if (into.is_null()) into = nlohmann::json::object();
  into.update(from);
}

}  // namespace

void Hyperparameters::add_hyperparameters(nlohmann::json hparams, const SaveHyperparameters& how) {
  if (!hparams.is_object()) {
    throw UsageError("save_hyperparameters takes a JSON object of names and values, not " +
                     shown(hparams.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  }
  for (const auto& name : how.ignore) {
    if (hparams.erase(name) > 0) continue;
    throw UsageError("save_hyperparameters is to ignore '" + shown(name) + "', which is none of them; did you mean " +
                     shown(nearest(name, names_of(hparams))) + "?");
  }
  merge(hparams_, hparams);
  if (how.logger) merge(logged_, hparams);
}

}  // namespace troupe
