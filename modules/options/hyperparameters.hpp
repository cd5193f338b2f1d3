// The hyper-parameters of a module or a data module: what it was made with, as JSON.
#pragma once

#include "troupe/modules/options/options.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// How save_hyperparameters keeps them; names and meanings are Lightning's.
struct SaveHyperparameters {
  /// Names to leave out; each must be there.
  std::vector<std::string> ignore = {};
  /// Show them to the sinks at the beginning of a run.
  bool logger = true;
};

/// What Lightning calls the HyperparametersMixin: a Module and a DataModule have it. Every checkpoint holds them, and
/// load_from_checkpoint builds from them. Saving again adds to what is there and replaces what has the same name.
class Hyperparameters {
 public:
  /// A JSON object: `hparams()["lr"].get<double>()`; null if nothing was saved.
  const nlohmann::json& hparams() const { return hparams_; }
  /// Those of them that the sinks are shown.
  const nlohmann::json& logged_hparams() const { return logged_; }

  /// Those of a described struct. Throws UsageError for values that JSON cannot hold, and for a name in `ignore` that
  /// does not exist (naming the nearest).
  template <Described Options>
  void save_hyperparameters(const Options& options, const SaveHyperparameters& how = {}) {
    add_hyperparameters(to_json_object(options, "hparams"), how);
  }
  /// Any others, as a JSON object: `save_hyperparameters({{"layers", 3}, {"act", "relu"}})`. Throws UsageError if
  /// it is none.
  void save_hyperparameters(const nlohmann::json& hparams, const SaveHyperparameters& how = {}) {
    add_hyperparameters(hparams, how);
  }

 protected:
  Hyperparameters() = default;
  ~Hyperparameters() = default;

 private:
  void add_hyperparameters(nlohmann::json hparams, const SaveHyperparameters& how);

  nlohmann::json hparams_ = nullptr;
  nlohmann::json logged_ = nullptr;
};

}  // namespace troupe
