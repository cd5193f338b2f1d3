#include "troupe/launch/checkpoint_choice.hpp"

#include "troupe/base/text.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/checkpoint/differences.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <future>
#include <iostream>

namespace troupe {

namespace {

constexpr std::size_t most_named = 5;
constexpr double seconds_of_doubt = 24 * 60 * 60;

const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json nothing;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? nothing : *found;
}

}  // namespace

CheckpointFilter CheckpointChoice::filter() {
  return {name_, [this](const auto& path, const auto& metadata) { return fits(path, metadata); }};
}

void CheckpointChoice::warn(const std::optional<FoundCheckpoint>& found) const {
  auto skipped = skipped_;
  if (found) skipped.insert(skipped.end(), found->skipped.begin(), found->skipped.end());
  for (std::size_t i = 0; i < std::min(skipped.size(), most_named); ++i) {
    std::cerr << "troupe: warning: passed over " << skipped[i].path.string() << ": " << skipped[i].reason << '\n';
  }
  if (skipped.size() > most_named) {
    std::cerr << "troupe: warning: passed over " << skipped.size() - most_named << " more checkpoints\n";
  }
  if (!found) return;
  const auto& saved_at = member(found->checkpoint.metadata, "saved_at");
  if (!saved_at.is_number() || saved_at.get<double>() < unix_seconds() + seconds_of_doubt) return;
  std::cerr << "troupe: warning: " << found->path.string()
            << " says that it was saved more than a day from now: a clock is, or was, wrong, and another checkpoint may"
               " be newer; ckpt_path takes its path\n";
}

std::string CheckpointChoice::passed_over() const {
  if (skipped_.empty()) return "";
  const auto& first = skipped_.front();
  return (skipped_.size() == 1 ? "one was passed over: "
                               : std::to_string(skipped_.size()) + " were passed over, the first of them ") +
         shown(first.path.string()) + ": " + first.reason;
}

bool CheckpointChoice::fits(const std::filesystem::path& path, const nlohmann::json& metadata) {
  const auto& run = member(metadata, "run");
  if (!launch_.empty() && member(run, "launch") != launch_) return false;
  if (source_.make_more && member(run, "model") == member(run_, "model")) return true;
  const auto differs = difference(path);
  if (differs.empty()) return true;
  skipped_.push_back({path, "it belongs to another model: " + differs});
  return false;
}

// Only what no module could be loaded with: what is damaged is found when the file is read, and names that are left
// over may be those of layers that setup makes.
std::string CheckpointChoice::difference(const std::filesystem::path& path) try {
  Sizes saved;
  const SafetensorsFile file(path);
  for (const auto& entry : file.entries()) {
    if (const auto name = name_in_model(entry.name)) saved.emplace(*name, entry.shape);
  }
  Differences differences;
  for (const auto& [name, sizes] : own_sizes()) {
    const auto found = saved.find(name);
    if (found == saved.end()) {
      if (is_strict_) differences.missing.push_back(name);
    } else if (found->second != sizes) {
      differences.unlike.push_back(c10::str(shown(name), " is ", c10::IntArrayRef(found->second), " in it and ",
                                            c10::IntArrayRef(sizes), " here"));
    }
  }
  return differences.describe();
} catch (const UsageError&) {
  return "";
}

const CheckpointChoice::Sizes& CheckpointChoice::own_sizes() {
  if (sizes_) return *sizes_;
  sizes_.emplace();
  try {
    const auto module = std::async(std::launch::async, source_.make).get();
    if (!module) return *sizes_;
    is_strict_ = module->strict_loading;
    for (const auto& [name, tensor] : saved_model_tensors(*module)) sizes_->emplace(name, tensor.sizes().vec());
  } catch (...) {
    // The worker, which builds it in earnest, says so.
  }
  return *sizes_;
}

}  // namespace troupe
