// Data and its preparation in one place, apart from the model.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/data_loader.hpp"
#include "troupe/modules/stage.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Loaders of a stage, in the order of `dataloader_idx`; one loader stands for a list of one. Training loaders may have
/// names, those of the parts of a batch (Batch::part):
///
///     return {{"labelled", labelled}, {"unlabelled", unlabelled}};
class DataLoaders {
 public:
  DataLoaders() = default;
  DataLoaders(DataLoader loader) { list_.push_back(std::move(loader)); }
  DataLoaders(std::initializer_list<DataLoader> list) : list_(list) {}
  DataLoaders(std::vector<DataLoader> list) : list_(std::move(list)) {}
  DataLoaders(std::initializer_list<std::pair<std::string, DataLoader>> named) {
    for (const auto& [name, loader] : named) {
      names_.push_back(name);
      list_.push_back(loader);
    }
  }

  bool empty() const { return list_.empty(); }
  std::size_t size() const { return list_.size(); }
  const DataLoader& operator[](std::size_t i) const { return list_.at(i); }
  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }
  /// As long as the list, or empty.
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<DataLoader> list_;
  std::vector<std::string> names_;
};

/// The hooks that bring data into a run. A Module has them too; where a DataModule is given, its loaders win.
///
/// Each is called on the worker's thread, in this order: prepare_data, setup, the loaders of the stage, teardown.
class DataModule {
 public:
  virtual ~DataModule() = default;

  /// Downloads or converts data. Runs on global rank zero only, before any other hook, so keep no state here.
  virtual void prepare_data() {}
  /// Loads and splits data for `stage`, on every rank.
  virtual void setup(Stage stage) { (void)stage; }
  /// After the stage, also when it failed.
  virtual void teardown(Stage stage) { (void)stage; }

  /// Loader of the training batches; empty: nothing to train on.
  virtual DataLoaders train_dataloader() { return {}; }
  virtual DataLoaders val_dataloader() { return {}; }
  virtual DataLoaders test_dataloader() { return {}; }
  virtual DataLoaders predict_dataloader() { return {}; }

  /// State to store in checkpoints.
  virtual nlohmann::json state_dict() const { return nullptr; }
  /// Gets back what state_dict returned. The value comes from a file: check it.
  virtual void load_state_dict(const nlohmann::json& state) { (void)state; }
};

}  // namespace troupe
