#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"

#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <set>
#include <tuple>

#include <sys/stat.h>

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

// Below a root, every folder once, so that links in a circle do no harm; what is reached without a link comes first.
class FolderSearch {
 public:
  FolderSearch(fs::path root, const std::string& name) : root_(std::move(root)), name_(name) {
    visit({root_, 0});
    while (!folders_.empty() || !links_.empty()) {
      auto& next = folders_.empty() ? links_ : folders_;
      const auto folder = std::move(next.front());
      next.pop_front();
      visit(folder);
    }
  }

  const std::vector<fs::path>& files() const { return files_; }
  /// Whether a file lies where the search could have gone: below the root, or below a folder that a link there leads
  /// to.
  bool covers(const fs::path& path) const {
    std::error_code error;
    const auto whole = fs::canonical(path, error);
    return !error && std::ranges::any_of(grounds_, [&](const fs::path& ground) {
      return std::mismatch(ground.begin(), ground.end(), whole.begin(), whole.end()).first == ground.end();
    });
  }

 private:
  struct Folder {
    fs::path path;
    int depth = 0;
    bool is_link = false;
  };
  using Identity = std::pair<dev_t, ino_t>;

  void visit(const Folder& folder) {
    struct stat status {};
    if (::stat(folder.path.c_str(), &status) != 0) return;
    const Identity identity(status.st_dev, status.st_ino);
    const bool holds_checkpoints = folder.depth == 0 || folder.path.filename() == "checkpoints";
    const bool reads = holds_checkpoints && read_.insert(identity).second;
    const bool enters = entered_.insert(identity).second;
    if (!reads && !enters) return;
    if (enters && (folder.is_link || folder.depth == 0)) add_ground(folder.path);
    std::error_code error;
    for (fs::directory_iterator it(folder.path, fs::directory_options::skip_permission_denied, error), end;
         !error && it != end; it.increment(error)) {
      std::error_code ignored;
      if (reads && it->path().extension() == checkpoint_extension && it->is_regular_file(ignored)) {
        files_.push_back(it->path());
      }
      if (enters && folder.depth < kMaxDepth && it->is_directory(ignored)) add_folder(*it, folder.depth + 1);
    }
  }

  void add_folder(const fs::directory_entry& entry, int depth) {
    std::error_code ignored;
    if (entry.path().filename().native().starts_with('.') || is_of_another_name(entry.path())) return;
    const bool is_link = entry.is_symlink(ignored);
    (is_link ? links_ : folders_).push_back({entry.path(), depth, is_link});
  }

  // A run's folder is <root>/<name>/version_N.
  bool is_of_another_name(const fs::path& path) const {
    if (name_.empty() || !path.filename().native().starts_with("version_")) return false;
    const auto name = path.parent_path().lexically_relative(root_);
    return name != "." && name != fs::path(name_).lexically_normal();
  }

  void add_ground(const fs::path& folder) {
    std::error_code error;
    if (auto whole = fs::canonical(folder, error); !error) grounds_.push_back(std::move(whole));
  }

  fs::path root_;
  const std::string& name_;
  std::deque<Folder> folders_, links_;
  std::set<Identity> entered_, read_;
  std::vector<fs::path> files_, grounds_;
};

bool is_of_another_name(const nlohmann::json& metadata, const std::string& name) {
  const auto run = metadata.find(metadata_key::run);
  if (name.empty() || run == metadata.end() || !run->is_object()) return false;
  const auto saved = run->find(metadata_key::run_name);
  return saved != run->end() && saved->is_string() && *saved != name;
}

// In a folder of `name`'s runs it is one of them, whatever it was called when it was written.
bool lies_in_folder_of(const fs::path& path, const fs::path& root, const std::string& name) {
  const auto below = (root / name).lexically_normal();
  const auto whole = path.lexically_normal();
  return std::mismatch(below.begin(), below.end(), whole.begin(), whole.end()).first == below.end();
}

/// The checkpoints below `root`, newest first; what has no readable header goes to `skipped`.
std::vector<Candidate> candidates(const FolderSearch& search, const fs::path& root, const std::string& name,
                                  std::vector<FoundCheckpoint::Skipped>& skipped) {
  std::vector<Candidate> out;
  for (const auto& path : search.files()) {
    try {
      Candidate candidate{.path = path, .modified = {}, .metadata = read_checkpoint_metadata(path)};
      if (is_of_another_name(candidate.metadata, name) && !lies_in_folder_of(path, root, name)) continue;
      const auto progress = candidate.metadata.value(metadata_key::progress, nlohmann::json());
      candidate.saved_at = number_at(candidate.metadata, metadata_key::saved_at);
      candidate.global_step = number_at(progress, metadata_key::global_step);
      std::error_code ignored;
      candidate.modified = fs::last_write_time(path, ignored);
      out.push_back(std::move(candidate));
    } catch (const std::exception& error) {
      skipped.push_back({path, error.what()});
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

/// Where the callback states of `candidate` say that the best checkpoint is; in the order of their keys.
std::vector<fs::path> best_paths(const Candidate& candidate, const FolderSearch& search,
                                 std::vector<FoundCheckpoint::Skipped>& skipped) {
  std::vector<fs::path> paths;
  const auto callbacks = candidate.metadata.find(metadata_key::callbacks);
  if (callbacks == candidate.metadata.end() || !callbacks->is_object()) return paths;
  for (const auto& [key, state] : callbacks->items()) {
    if (!state.is_object()) continue;
    const auto best = state.find(metadata_key::best_model_path);
    if (best == state.end() || !best->is_string()) continue;
    const auto text = best->get<std::string>();
    if (text.empty()) continue;
    // Relative to the folder of the checkpoint; an absolute path stays what it is.
    const auto path = (candidate.path.parent_path() / text).lexically_normal();
    if (text.find('\0') == text.npos && search.covers(path)) {
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

std::optional<FoundCheckpoint> find_last(const fs::path& root, const CheckpointFilter& filter) {
  std::vector<FoundCheckpoint::Skipped> skipped;
  const FolderSearch search(root, filter.name);
  for (const auto& candidate : candidates(search, root, filter.name, skipped)) {
    if (filter.fits && !filter.fits(candidate.path, candidate.metadata)) continue;
    if (auto found = read(candidate.path, skipped)) return found;
  }
  if (!skipped.empty()) throw_none("last", root, skipped);
  return std::nullopt;
}

std::optional<FoundCheckpoint> find_best(const fs::path& root, const CheckpointFilter& filter) {
  std::vector<FoundCheckpoint::Skipped> skipped;
  const FolderSearch search(root, filter.name);
  bool is_there = false;
  for (const auto& candidate : candidates(search, root, filter.name, skipped)) {
    if (filter.fits && !filter.fits(candidate.path, candidate.metadata)) continue;
    is_there = true;
    for (const auto& path : best_paths(candidate, search, skipped)) {
      const auto known = [&](const auto& entry) { return entry.path == path; };
      if (std::any_of(skipped.begin(), skipped.end(), known)) continue;  // read in vain already
      if (auto found = read(path, skipped)) return found;
    }
  }
  if (is_there || !skipped.empty()) throw_none("best", root, skipped);
  return std::nullopt;
}

}  // namespace troupe
