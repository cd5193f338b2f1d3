// The main function of a program that trains: `program STAGE [options]`.
//
//     int main(int argc, char** argv) { return troupe::main<Digits, DigitsData>(argc, argv); }
//
// Stages are fit, validate, test and predict, and tune for finders (launch/tune_command.hpp); options are the Trainer's
// (--trainer.X), the module's (--model.X) and the data module's (--data.X), on the command line or in files (--config
// run.toml); --optimizer NAME, --scheduler NAME, --callbacks NAME and --logger NAME choose parts with options of their
// own (runtime/parts/parts.hpp). Results go to stdout, everything else to stderr; at the end a summary, which --quiet
// leaves out. `program completion bash` (zsh, fish) prints a script that completes all of that in a shell. Returns 0; 1
// for a run that failed, 2 for invalid options; after a signal that asked it to end 128 and its number: 130 after
// Ctrl-C, 143 after SIGTERM, and after SIGUSR1 as well; each with one sentence.
#pragma once

#include "troupe/launch/command_line.hpp"
#include "troupe/launch/trainer.hpp"

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace troupe {

/// What a program may change about its main function.
struct MainOptions {
  std::string name = {};        ///< of the program, in messages; empty: from argv[0]
  TrainerOptions trainer = {};  ///< the defaults that the command line changes
  /// Called with the Trainer before the stage: the place to add actors.
  std::function<void(Trainer&)> prepare = {};
};

namespace main_detail {

struct NoOptions {};

/// The steps that need no types. `run` gets the Trainer and its arguments.
int run(int argc, char** argv, MainOptions& options, std::vector<OptionGroup> groups,
        const std::function<ModuleSource()>& source, const std::function<DataModulePtr()>& data);

template <class T>
struct OptionsOf {
  using type = NoOptions;
};
template <class T>
requires requires {
  typename T::Options;
}
struct OptionsOf<T> {
  using type = typename T::Options;
};

template <class T>
std::shared_ptr<T> make(const typename OptionsOf<T>::type& options) {
  if constexpr (std::is_constructible_v<T, const typename OptionsOf<T>::type&>) {
    return std::make_shared<T>(options);
  } else {
    (void)options;
    return std::make_shared<T>();
  }
}

}  // namespace main_detail

/// For a module `M` and a data module `D`, each made from its `Options` if it has that member type (a described
/// struct, modules/options/options.hpp), else by its default constructor. Without D the module has the loaders.
template <std::derived_from<Module> M, class D = void>
int main(int argc, char** argv, MainOptions options = {}) {
  using ModelOptions = typename main_detail::OptionsOf<M>::type;
  ModelOptions model_options{};
  std::vector<OptionGroup> groups;
  if constexpr (Described<ModelOptions>) groups.push_back(option_group("model", model_options));
  const auto source = [&] {
    const auto make = [model_options]() -> std::shared_ptr<Module> { return main_detail::make<M>(model_options); };
    return ModuleSource{make, module_hooks<M>(), type_name(typeid(M)), nullptr, {}, make};
  };
  if constexpr (std::is_void_v<D>) {
    return main_detail::run(argc, argv, options, std::move(groups), source, [] { return nullptr; });
  } else {
    using DataOptions = typename main_detail::OptionsOf<D>::type;
    DataOptions data_options{};
    if constexpr (Described<DataOptions>) groups.push_back(option_group("data", data_options));
    return main_detail::run(argc, argv, options, std::move(groups), source,
                            [&] { return main_detail::make<D>(data_options); });
  }
}

}  // namespace troupe
