// The four things a Trainer can be asked to do.
#pragma once

#include <string_view>

namespace troupe {

enum class Stage { fit, validate, test, predict };

constexpr std::string_view to_string(Stage stage) {
  switch (stage) {
    case Stage::fit: return "fit";
    case Stage::validate: return "validate";
    case Stage::test: return "test";
    case Stage::predict: return "predict";
  }
  return "";
}

}  // namespace troupe
