// Data and its preparation in one place, apart from the model.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/modules/hooks.hpp"
#include "troupe/modules/options/hyperparameters.hpp"
#include "troupe/modules/stage.hpp"

#include <nlohmann/json.hpp>

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

namespace troupe {

class Module;
class RunContext;

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
  /// The same loaders with other options: `change` is called with those of each.
  template <std::invocable<DataLoaderOptions&> Change>
  DataLoaders changed(Change change) const {
    DataLoaders out;
    out.names_ = names_;
    for (const auto& loader : list_) {
      auto options = loader.options();
      change(options);
      out.list_.push_back(loader.dataset() ? DataLoader(loader.dataset(), std::move(options))
                                           : DataLoader(loader.stream(), std::move(options)));
    }
    return out;
  }

 private:
  std::vector<DataLoader> list_;
  std::vector<std::string> names_;
};

/// The hooks that bring data into a run, in one class apart from the model; names and meanings are those of Lightning's
/// LightningDataModule (https://lightning.ai/docs/pytorch/stable/data/datamodule.html).
///
/// A Module has most of them too. prepare_data, setup and teardown are called on both, on the data module first; if
/// both have loaders or transfer hooks, the data module's win. Loaders given to the Trainer win over both.
///
/// Each is called on the worker's thread, in this order: prepare_data, setup, the loaders of the stage, the transfer
/// hooks of each batch, teardown.
class DataModule : public Hyperparameters {
 public:
  virtual ~DataModule() = default;

  /// Downloads or converts data. Runs on global rank zero only, before any other hook, so keep no state here.
  virtual void prepare_data() {}
  /// Loads and splits data for `stage`, on every rank; before the callbacks' and the module's.
  virtual void setup(Stage stage) { (void)stage; }
  /// After the stage, also if it failed; before the callbacks' and the module's.
  virtual void teardown(Stage stage) { (void)stage; }

  /// Loader of the training batches; empty: the module's.
  virtual DataLoaders train_dataloader() { return {}; }
  virtual DataLoaders val_dataloader() { return {}; }
  virtual DataLoaders test_dataloader() { return {}; }
  virtual DataLoaders predict_dataloader() { return {}; }

  /// Change a batch before it is moved to the device, move it, change it there. An override here is called instead of
  /// the module's. Default: the module's.
  virtual Batch on_before_batch_transfer(Batch batch, int64_t dataloader_idx);
  virtual Batch transfer_batch_to_device(Batch batch, torch::Device device, int64_t dataloader_idx);
  virtual Batch on_after_batch_transfer(Batch batch, int64_t dataloader_idx);

  /// The run failed, here or elsewhere; after the callbacks', before teardown.
  virtual void on_exception(const Failure& failure) { (void)failure; }

  /// State to store in checkpoints.
  virtual nlohmann::json state_dict() const { return nullptr; }
  /// Gets back what state_dict returned. The value comes from a file: check it.
  virtual void load_state_dict(const nlohmann::json& state) { (void)state; }

  bool in_run() const { return run_ != nullptr; }
  /// The run that it takes part in. Throws UsageError outside of one.
  RunContext& trainer() const;
  /// Called by whoever runs it; nulls when the run is over.
  void attach(RunContext* run, Module* module) { run_ = run, module_ = module; }

 private:
  RunContext* run_ = nullptr;
  Module* module_ = nullptr;
};

/// A data module whose options are a described struct (modules/options/options.hpp): they are constructor argument,
/// hyper-parameters, command line and config file at once.
template <Described O>
class DataModuleWith : public DataModule {
 public:
  using Options = O;
  explicit DataModuleWith(O options) : options_(std::move(options)) { save_hyperparameters(options_); }
  const O& options() const { return options_; }
  /// Changes the options, and the hyper-parameters with them, outside of a run: what setup and the loaders' hooks read.
  void set_options(O options) {
    options_ = std::move(options);
    save_hyperparameters(options_);
  }

 private:
  O options_;
};

/// A data module as a run takes it: a shared pointer that remembers which transfer hooks its type overrides. Null by
/// default.
class DataModulePtr {
 public:
  DataModulePtr() = default;
  DataModulePtr(std::nullptr_t) {}  // NOLINT(google-explicit-constructor)
  template <std::derived_from<DataModule> D>
  DataModulePtr(std::shared_ptr<D> data)  // NOLINT(google-explicit-constructor)
      : type_is_known_(data && typeid(*data) == typeid(D)),
        overridden_(transfer_hooks<D>(data.get(), type_is_known_)),
        data_(std::move(data)) {}

  explicit operator bool() const { return data_ != nullptr; }
  DataModule* operator->() const { return data_.get(); }
  DataModule* get() const { return data_.get(); }
  /// Whether it takes this transfer hook over from the module.
  bool overrides(Hook hook) const { return overridden_.has(hook); }
  /// False for a pointer to a base class: then all count as overridden, and the defaults lead back to the module.
  bool type_is_known() const { return type_is_known_; }

 private:
  template <class D>
  static HookSet transfer_hooks(const D* data, bool is_known) {
    HookSet set;
    if (!data) return set;
#define TROUPE_TRANSFER_HOOK(name, arguments, owners)                                       \
  TROUPE_TAKES(transfer, arguments)                                                         \
  (                                                                                         \
      if (bool is_own = true; is_known) {                                                   \
        if constexpr (requires { hooks_detail::class_of(&D::name); })                       \
          is_own = !std::is_same_v<decltype(hooks_detail::class_of(&D::name)), DataModule>; \
        if (is_own) set.add(Hook::name);                                                    \
      } else { set.add(Hook::name); })
    TROUPE_HOOKS(TROUPE_TRANSFER_HOOK)
#undef TROUPE_TRANSFER_HOOK
    return set;
  }

  bool type_is_known_ = false;
  HookSet overridden_;
  std::shared_ptr<DataModule> data_;
};

}  // namespace troupe
