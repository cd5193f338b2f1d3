// The parts that a command line, files and the environment name: an optimizer, a scheduler, callbacks and loggers.
//
//     --optimizer muon --optimizer.lr 0.02 --scheduler cosine --callbacks early_stopping --callbacks.patience 5
//
// A run has one optimizer and one scheduler by name. Their options may stand before the name; naming another one in a
// later place (command line after environment after files) drops the options of the one before. Callbacks and loggers
// add up, and options belong to the one named last. "none" takes back what was named so far.
//
// The loggers that are named take the place of trainer.loggers, unless that is given in a later place than they.
#pragma once

#include "troupe/launch/option_group.hpp"
#include "troupe/launch/part_setting.hpp"
#include "troupe/runtime/parts/parts.hpp"

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// A kind of parts, as options call it.
struct PartKind {
  const char* name;  ///< "callbacks": --callbacks NAME, --callbacks.patience
  const char* meaning;
  bool is_list;  ///< several may be named
  const PartRegistry& (*registry)();
};
const std::array<PartKind, 4>& part_kinds();

/// The names of the kinds: "optimizer", ...
std::vector<std::string> part_kind_names();

/// The kind that `name` ("optimizer", "optimizer.lr") is about; null if it is about none.
const PartKind* part_kind_of(std::string_view name);

class ChosenParts final : public PartSettings {
 public:
  /// `options` must outlive it.
  explicit ChosenParts(TrainerOptions& options) : options_(options) {}

  std::vector<std::string> kinds() const override { return part_kind_names(); }
  std::vector<std::string> lists() const override;
  bool takes(std::string_view name) const override { return part_kind_of(name) != nullptr; }
  void begin_place() override { ++place_; }
  void add(PartSetting setting) override;
  void forget_loggers() override;
  /// Finds the parts and sets their options. Throws UsageError for an unknown name or option, with the nearest, a value
  /// that an option cannot have, and an option of a part that is not named. To be called once, at the end.
  void resolve();

  /// The parts, as tables of a config file that names them again. Their options refer to this object.
  std::vector<OptionGroup> groups();
  /// Makes the callbacks and the loggers, and puts all into the Trainer's options. Throws UsageError for options that
  /// cannot be.
  void put_into_options();

 private:
  struct Given {
    PartSetting setting;
    int place;
    bool is_name;
  };
  struct Chosen {
    const PartKind* kind;
    std::string name;
    std::shared_ptr<Part> part;
    nlohmann::json defaults;
  };

  void resolve_one(const PartKind& kind, const std::vector<const Given*>& given);
  void resolve_list(const PartKind& kind, const std::vector<const Given*>& given);
  Chosen chosen(const PartKind& kind, const std::string& name, const std::string& source) const;
  static void set(const Chosen& chosen, const PartSetting& setting);
  const Chosen* only(const char* kind) const;
  OptionGroup group(Chosen& chosen, const std::string& name) const;

  TrainerOptions& options_;
  int place_ = 0;
  std::vector<Given> given_;
  std::vector<std::unique_ptr<Chosen>> chosen_;  // groups refer to their names
  bool has_named_loggers_ = false;
};

}  // namespace troupe
