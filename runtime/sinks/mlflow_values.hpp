// What a run's names and values become so that an MLflow server takes them. One that it refuses would cost the whole
// batch that it is in (mlflow/utils/validation.py of 3.17).
#pragma once

#include "troupe/runtime/sinks/mlflow_client.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>

namespace troupe {

inline constexpr std::size_t longest_mlflow_key = 250, longest_mlflow_param = 6000, longest_mlflow_tag = 8000;

/// The first `count` characters of `text`, which is UTF-8.
std::string first_characters(const std::string& text, std::size_t count);

/// `name` as a key: letters, digits, `_ - . : /` and space, at most 250 characters, and as a path one that is its own
/// shortest form. All else becomes _: "acc@5" is "acc_5", "/a//b" is "a/b". A key that was valid stays what it is.
std::string mlflow_key(std::string_view name);

/// Keys of one run: two names never share one. The second of two that would has a number behind it.
class MlflowKeys {
 public:
  const std::string& of(const std::string& name);

 private:
  std::unordered_map<std::string, std::string> keys_, names_;  // by name, by key
};

/// {"trainer": {"max_epochs": 3}} as "trainer.max_epochs", "3". Lists are JSON; none is "none". Values are UTF-8, and
/// not cut.
MlflowTexts flattened(const nlohmann::json& object);

}  // namespace troupe
