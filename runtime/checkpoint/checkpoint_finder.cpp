#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"

#include "troupe/modules/nearest.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <algorithm>
#include <limits>
#include <tuple>

namespace troupe {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 8;
constexpr std::size_t kMaxListed = 5;

struct Candidate {
  fs::path path;
  double saved_at = 0;
  double global_step = 0;
  fs::file_time_type modified;
  nlohmann::json metadata;

  auto key() const { return std::tie(saved_at, global_step, modified, path); }
};

double number_at(const nlohmann::json& metadata, const char* key) {
  const auto found = metadata.is_object() ? metadata.find(key) : metadata.end();
  return found != metadata.end() && found->is_number() ? found->get<double>() : -std::numeric_limits<double>::max();
}

void add_files(const fs::path& folder, std::vector<fs::path>& paths) {
  std::error_code error;
  for (fs::directory_iterator it(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->path().extension() == checkpoint_extension && it->is_regular_file(ignored)) paths.push_back(it->path());
  }
}

std::vector<fs::path> checkpoint_files(const fs::path& root) {
  std::vector<fs::path> paths;
  add_files(root, paths);
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, fs::directory_options::skip_permission_denied, error), end;
       !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_symlink(ignored) || !it->is_directory(ignored)) continue;
    const auto name = it->path().filename().string();
    if (name.starts_with('.') || it.depth() + 1 >= kMaxDepth) it.disable_recursion_pending();
    if (name == "checkpoints") add_files(it->path(), paths);
  }
  return paths;
}

/// The checkpoints below `root`, newest first; what has no readable header goes to `skipped`.
std::vector<Candidate> candidates(const fs::path& root, std::vector<FoundCheckpoint::Skipped>& skipped) {
  std::vector<Candidate> out;
  for (auto& path : checkpoint_files(root)) {
    try {
      Candidate candidate{.path = path, .modified = {}, .metadata = read_checkpoint_metadata(path)};
      candidate.saved_at = number_at(candidate.metadata, "saved_at");
      candidate.global_step = number_at(candidate.metadata.value("progress", nlohmann::json()), "global_step");
      std::error_code ignored;
      candidate.modified = fs::last_write_time(path, ignored);
      out.push_back(std::move(candidate));
    } catch (const std::exception& error) {
      skipped.push_back({std::move(path), error.what()});
    }
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.key() > b.key(); });
  return out;
}

[[noreturn]] void throw_none(const char* what, const fs::path& root,
                             const std::vector<FoundCheckpoint::Skipped>& skipped) {
  std::string text = std::string("no ") + what + " checkpoint below this folder will do";
  for (std::size_t i = 0; i < std::min(skipped.size(), kMaxListed); ++i) text += "; " + skipped[i].reason;
  if (skipped.size() > kMaxListed) text += "; and " + std::to_string(skipped.size() - kMaxListed) + " more";
  throw CheckpointError(root, text);
}

bool lies_below(const fs::path& path, const fs::path& root) {
  std::error_code error;
  const auto whole_root = fs::canonical(root, error);
  const auto whole_path = error ? fs::path() : fs::canonical(path, error);
  if (error) return false;
  return std::mismatch(whole_root.begin(), whole_root.end(), whole_path.begin(), whole_path.end()).first ==
         whole_root.end();
}

/// Where the callback states of `candidate` say that the best checkpoint is; in the order of their keys.
std::vector<fs::path> best_paths(const Candidate& candidate, const fs::path& root,
                                 std::vector<FoundCheckpoint::Skipped>& skipped) {
  std::vector<fs::path> paths;
  const auto callbacks = candidate.metadata.find("callbacks");
  if (callbacks == candidate.metadata.end() || !callbacks->is_object()) return paths;
  for (const auto& [key, state] : callbacks->items()) {
    if (!state.is_object()) continue;
    const auto best = state.find("best_model_path");
    if (best == state.end() || !best->is_string()) continue;
    const auto text = best->get<std::string>();
    if (text.empty()) continue;
    // Relative to the folder of the checkpoint; an absolute path stays what it is.
    const auto path = (candidate.path.parent_path() / text).lexically_normal();
    if (text.find('\0') == text.npos && lies_below(path, root)) {
      paths.push_back(path);
    } else {
      skipped.push_back({candidate.path, "'" + candidate.path.string() + "' calls '" + shown(text) +
                                             "' the best, which is not there or not below the folder"});
    }
  }
  return paths;
}

/// `path` as read, or nothing and an entry in `skipped`.
std::optional<FoundCheckpoint> read(const fs::path& path, std::vector<FoundCheckpoint::Skipped>& skipped) {
  try {
    return FoundCheckpoint{path, read_checkpoint(path), skipped};
  } catch (const std::exception& error) {
    skipped.push_back({path, error.what()});
    return std::nullopt;
  }
}

}  // namespace

std::optional<FoundCheckpoint> find_last(const fs::path& root) {
  std::vector<FoundCheckpoint::Skipped> skipped;
  for (const auto& candidate : candidates(root, skipped)) {
    if (auto found = read(candidate.path, skipped)) return found;
  }
  if (!skipped.empty()) throw_none("last", root, skipped);
  return std::nullopt;
}

std::optional<FoundCheckpoint> find_best(const fs::path& root) {
  std::vector<FoundCheckpoint::Skipped> skipped;
  const auto all = candidates(root, skipped);
  for (const auto& candidate : all) {
    for (const auto& path : best_paths(candidate, root, skipped)) {
      const auto known = [&](const auto& entry) { return entry.path == path; };
      if (std::any_of(skipped.begin(), skipped.end(), known)) continue;  // read in vain already
      if (auto found = read(path, skipped)) return found;
    }
  }
  if (!all.empty() || !skipped.empty()) throw_none("best", root, skipped);
  return std::nullopt;
}

}  // namespace troupe
