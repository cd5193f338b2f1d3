// Parts of a run that options choose by name, each with options of its own: `--optimizer muon --optimizer.lr 0.02`.
//
// A registry holds the parts of one kind. Those that come with the library are in it from a table; a program adds its
// own before main begins (parts.hpp). Nothing is thrown then: two parts of one name, or a name that cannot be, are
// what the first use of the registry throws. Registries are filled by one thread, and may be read by any afterwards.
#pragma once

#include "troupe/modules/options/options.hpp"

#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace troupe {

/// One part that was chosen, with its options.
class Part {
 public:
  virtual ~Part() = default;
  /// They refer to this object.
  virtual std::vector<OptionRef> options() = 0;
};

/// What is known of a part before it is chosen.
struct PartInfo {
  /// Small letters, digits and '_'.
  std::string name;
  std::string meaning = "";
  /// Other names that it takes.
  std::vector<std::string> other_names = {};
  /// Who has registered it: "Troupe", or "my_optimizer.cpp:12".
  std::string origin = "Troupe";
};

/// "my_optimizer.cpp:12".
std::string origin_of(const std::source_location& where);

/// The options of a part that has none.
struct NoPartOptions {};
[[maybe_unused]] constexpr auto troupe_describe_options(const NoPartOptions*) {
  return std::make_tuple();
}

/// The names of one kind of parts. Names are told apart without regard to capitals, '_' and '-': "CosineAnnealingLR" is
/// "cosine_annealing_lr".
class PartRegistry {
 public:
  /// `kind` is what a part is called in messages: "optimizer".
  explicit PartRegistry(std::string kind) : kind_(std::move(kind)) {}
  virtual ~PartRegistry() = default;
  PartRegistry(const PartRegistry&) = delete;
  PartRegistry& operator=(const PartRegistry&) = delete;

  const std::string& kind() const { return kind_; }
  /// In alphabetical order.
  std::vector<std::string> names() const;
  /// Throws UsageError for a name that no part has, with the nearest and the list, and if two parts have one name.
  const PartInfo& info(std::string_view name) const;
  /// A part with its options at their defaults. Throws as `info` does.
  std::unique_ptr<Part> new_part(std::string_view name) const;

 protected:
  using Make = std::function<std::unique_ptr<Part>()>;
  void add_entry(PartInfo info, Make make);

 private:
  struct Entry {
    PartInfo info;
    Make make;
  };
  const Entry* entry(std::string_view name) const;
  const Entry& entry_or_refuse(std::string_view name) const;

  std::string kind_;
  std::vector<Entry> entries_;
  std::string problem_;  // the first one of the registrations; empty: there is none
};

template <class Signature>
class Registry;

/// Parts that make a `Product` out of what they are `Given`.
template <class Product, class... Given>
class Registry<Product(Given...)> : public PartRegistry {
 public:
  /// A part of this kind.
  class Named : public Part {
   public:
    /// Throws UsageError for options that cannot be.
    virtual Product make(Given... given) const = 0;
  };

  using PartRegistry::PartRegistry;

  /// `make` is called as make(given..., options).
  template <Described Options, class MakePart>
  void add(PartInfo info, MakePart make, Options defaults = {}) {
    class WithOptions final : public Named {
     public:
      WithOptions(MakePart making, Options values) : making_(std::move(making)), options_(std::move(values)) {}
      std::vector<OptionRef> options() override { return option_refs(options_); }
      Product make(Given... given) const override { return making_(std::forward<Given>(given)..., options_); }

     private:
      MakePart making_;
      Options options_;
    };
    add_named(std::move(info), [make, defaults] { return std::make_unique<WithOptions>(make, defaults); });
  }
  /// `make_named` returns a std::unique_ptr to a class derived from Named.
  template <class MakeNamed>
  void add_named(PartInfo info, MakeNamed make_named) {
    add_entry(std::move(info), [make_named]() -> std::unique_ptr<Part> { return make_named(); });
  }
};

}  // namespace troupe
