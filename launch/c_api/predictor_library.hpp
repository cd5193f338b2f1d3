// Modules of a program or library as predictors that C opens by name (launch/c_api/troupe_c.h).
//
//     #include "digits.hpp"
//     TROUPE_PREDICTOR(digits, Digits)
//
// This is the whole source of a shared library that Python, Rust or C loads. CMake builds it with
// `troupe_add_predictor_library(digits_predictor digits_predictor.cpp)`; all that it exports are the functions of
// troupe_c.h. examples/serve has one, and a program in Python that uses it.
#pragma once

#include "troupe/launch/c_api/troupe_c.h"
#include "troupe/modules/module.hpp"
#include "troupe/runtime/checkpoint/load_from_checkpoint.hpp"

#include <concepts>
#include <filesystem>
#include <memory>

namespace troupe {

using PredictorModule = std::shared_ptr<Module> (*)(const std::filesystem::path& checkpoint);

/// Makes what `load` returns known to troupe_predictor_open as `name`. TROUPE_PREDICTOR calls it before main, or when
/// the library is loaded; any thread may. A name that is registered twice is refused if it is opened. Returns true.
bool register_predictor(const char* name, PredictorModule load) noexcept;

template <std::derived_from<Module> M>
std::shared_ptr<Module> load_predictor_module(const std::filesystem::path& checkpoint) {
  return load_from_checkpoint<M>(checkpoint);
}

}  // namespace troupe

/// At namespace scope of a source: registers the module class as a predictor of this name, an identifier. The class is
/// built as load_from_checkpoint builds it, and its example_input_array says what a row of the input is.
#define TROUPE_PREDICTOR(name, ...)                            \
  [[maybe_unused]] static const bool troupe_predictor_##name = \
      ::troupe::register_predictor(#name, &::troupe::load_predictor_module<__VA_ARGS__>);
