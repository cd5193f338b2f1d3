#include "troupe/runtime/sinks/mlflow_spool.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/state_reader.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/file_lock.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/sinks/mlflow_values.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <system_error>

namespace troupe {

namespace {

constexpr std::size_t kLongestSpoolLine = std::size_t{4} << 20;
constexpr std::size_t kReadAtOnce = std::size_t{256} << 10;
constexpr std::size_t kMostUnwritten = std::size_t{4} << 20;
constexpr std::size_t kMostSpoolMetrics = 1000, kMostTexts = 100;

double number_in_spool(const nlohmann::json& json, const StateReader& reader) {
  if (const auto number = number_from_json(json)) return *number;
  reader.refuse("a metric is not a number");
}

nlohmann::json spooled_texts(const MlflowTexts& texts) {
  auto list = nlohmann::json::array();
  for (const auto& [key, value] : texts) list.push_back({key, value});
  return list;
}

// Pairs of a key and something else.
const nlohmann::json& spooled_pairs(const StateReader& reader, const char* key, std::size_t most) {
  const auto& list = reader.list(key);
  const auto is_pair = [](const nlohmann::json& pair) {
    return pair.is_array() && pair.size() == 2 && pair[0].is_string();
  };
  if (list.size() > most) reader.refuse(std::string(key) + " are more than a request may have");
  if (!std::ranges::all_of(list, is_pair)) reader.refuse(std::string(key) + " are not pairs");
  return list;
}

MlflowTexts texts_in_spool(const StateReader& reader, const char* key, std::size_t longest) {
  MlflowTexts texts;
  if (!reader.has(key)) return texts;
  for (const auto& pair : spooled_pairs(reader, key, kMostTexts)) {
    if (!pair[1].is_string()) reader.refuse(std::string(key) + " are not texts");
    auto name = pair[0].get<std::string>();
    auto value = pair[1].get<std::string>();
    if (mlflow_key(name) != name) reader.refuse("'" + shown(name) + "' is no key");
    if (first_characters(value, longest).size() != value.size()) reader.refuse("'" + shown(name) + "' is too long");
    texts.emplace_back(std::move(name), std::move(value));
  }
  return texts;
}

std::string spool_errno_reason() {
  return std::generic_category().message(errno);
}

int open_spool(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (descriptor < 0) throw UsageError("cannot write '" + path.string() + "': " + spool_errno_reason());
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw UsageError("cannot write '" + path.string() + "': it is not a file");
  }
  if (writer_of(descriptor) == Writer::holds_it) {
    ::close(descriptor);
    throw SpoolInUse(path.string() + " is written by another process: the run goes on, or somebody sends it already");
  }
  return descriptor;
}

std::string read_spool(int descriptor, uint64_t from, std::size_t count, const std::filesystem::path& path) {
  std::string text(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    const auto got = ::pread(descriptor, text.data() + have, count - have, static_cast<off_t>(from + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw UsageError("cannot read '" + path.string() + "': " + spool_errno_reason());
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

uint64_t size_of_spool(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

[[noreturn]] void refuse_long_line(const std::filesystem::path& path, uint64_t position) {
  throw UsageError(path.string() + " is damaged: the line at byte " + std::to_string(position) +
                   " has more than 4 MiB");
}

}  // namespace

std::string spool_line(const SpoolEntry& entry) {
  nlohmann::json json = {{"seq", entry.number}};
  const auto& [metrics, params, tags] = entry.batch;
  if (!params.empty()) json["params"] = spooled_texts(params);
  if (!tags.empty()) json["tags"] = spooled_texts(tags);
  if (!metrics.empty()) {
    json["step"] = metrics[0].step;
    json["time"] = metrics[0].time;
    auto& list = json["metrics"] = nlohmann::json::array();
    for (const auto& metric : metrics) list.push_back({metric.key, number_to_json(metric.value)});
  }
  if (entry.status) {
    json["status"] = name_of(entry.status->status);
    json["time"] = entry.status->time;
  }
  if (entry.has_artifacts) json["artifacts"] = true;
  return json.dump() + "\n";
}

SpoolEntry spool_entry(std::string_view line, const std::string& what) {
  nlohmann::json json;
  try {
    json = parse_strict_json(line);
  } catch (const UsageError& wrong) {
    throw UsageError(what + ": " + wrong.what());
  }
  const StateReader reader(json, what);
  SpoolEntry entry;
  entry.number = reader.count("seq", 1);
  entry.batch.params = texts_in_spool(reader, "params", longest_mlflow_param);
  entry.batch.tags = texts_in_spool(reader, "tags", longest_mlflow_tag);
  if (reader.has("metrics")) {
    const auto step = reader.count("step", -largest_saved_count);
    const auto time = reader.count("time");
    for (const auto& pair : spooled_pairs(reader, "metrics", kMostSpoolMetrics)) {
      auto key = pair[0].get<std::string>();
      if (mlflow_key(key) != key) reader.refuse("'" + shown(key) + "' is no key");
      entry.batch.metrics.push_back({std::move(key), number_in_spool(pair[1], reader), time, step});
    }
  }
  if (reader.has("status")) {
    const auto status = mlflow_status(reader.text("status"));
    if (!status) reader.refuse("status is '" + shown(reader.text("status")) + "', which no run has");
    entry.status = {*status, reader.count("time")};
  }
  entry.has_artifacts = reader.has("artifacts") && reader.flag("artifacts");
  return entry;
}

MlflowSpool::MlflowSpool(const std::filesystem::path& run_folder, int64_t sent)
    : path_(run_folder / "mlflow.spool"),
      lock_(open_spool(path_)),
      file_([this] {
        try {
          return AppendFile(path_, AppendFile::Existing::keep);
        } catch (...) {
          ::close(lock_);
          throw;
        }
      }()),
      sent_(sent),
      last_(sent) {
  try {
    open_end();
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

MlflowSpool::~MlflowSpool() {
  try {
    file_.flush();
  } catch (const std::exception&) {
    // Reported by the append before.
  }
  ::close(lock_);
}

// The last whole line has the largest number; what is behind it was never whole.
void MlflowSpool::open_end() {
  const auto size = size_of_spool(lock_);
  const auto from = size - std::min<uint64_t>(size, 2 * kLongestSpoolLine);
  const auto text = read_spool(lock_, from, static_cast<std::size_t>(size - from), path_);
  const auto end = text.rfind('\n');
  if (end == std::string::npos && from > 0) refuse_long_line(path_, from);
  const auto whole = end == std::string::npos ? 0 : end + 1;
  if (whole < text.size() && ::ftruncate(lock_, static_cast<off_t>(from + whole)) != 0) {
    throw UsageError("cannot write '" + path_.string() + "': " + spool_errno_reason());
  }
  if (whole == 0) return;
  const auto before = text.substr(0, end).rfind('\n');
  const auto begin = before == std::string::npos ? 0 : before + 1;
  const auto what = path_.string() + ", the line at byte " + std::to_string(from + begin);
  last_ = std::max(last_, spool_entry(std::string_view(text).substr(begin, end - begin), what).number);
}

void MlflowSpool::append(SpoolEntry entry) {
  const std::scoped_lock lock(mutex_);
  entry.number = last_ + 1;
  const auto line = spool_line(entry);
  if (cannot_write_ && unwritten_ + line.size() > kMostUnwritten) {
    ++lost_;
    return;
  }
  last_ = entry.number;
  unwritten_ += line.size();
  try {
    file_.append(line);
  } catch (const std::exception&) {
    cannot_write_ = true;
    throw;
  }
}

void MlflowSpool::flush() {
  const std::scoped_lock lock(mutex_);
  flush_locked();
}

void MlflowSpool::flush_locked() {
  try {
    file_.flush();
  } catch (const std::exception&) {
    cannot_write_ = true;
    throw;
  }
  cannot_write_ = false;
  unwritten_ = 0;
}

std::vector<SpoolEntry> MlflowSpool::next() {
  const std::scoped_lock lock(mutex_);
  std::vector<SpoolEntry> entries;
  while (entries.empty()) {
    auto text = read_spool(lock_, position_, kReadAtOnce, path_);
    if (text.find('\n') == std::string::npos && text.size() == kReadAtOnce) {
      text = read_spool(lock_, position_, kLongestSpoolLine, path_);
      if (text.size() == kLongestSpoolLine && text.find('\n') == std::string::npos) refuse_long_line(path_, position_);
    }
    uint64_t at = position_;
    for (std::size_t i = 0, end = 0; (end = text.find('\n', i)) != std::string::npos; i = end + 1) {
      try {
        const auto what = path_.string() + ", the line at byte " + std::to_string(at);
        auto entry = spool_entry(std::string_view(text).substr(i, end - i), what);
        at += end + 1 - i;
        entry.end = at;
        if (entry.number > sent_) entries.push_back(std::move(entry));
      } catch (const UsageError&) {
        if (entries.empty()) throw;
        return entries;  // what is before a damaged line is sent
      }
    }
    if (entries.empty() && at == position_) break;  // the end
    if (entries.empty()) position_ = at;
  }
  return entries;
}

void MlflowSpool::mark_sent(const SpoolEntry& entry) {
  const std::scoped_lock lock(mutex_);
  sent_ = std::max(sent_, entry.number);
  position_ = entry.end;
}

void MlflowSpool::shrink(uint64_t least) {
  const std::scoped_lock lock(mutex_);
  const auto size = size_of_spool(lock_);
  // A line that is written in part, since the disk is full, goes on where it stands.
  if (position_ < size || size < least || size == 0 || cannot_write_) return;
  if (::ftruncate(lock_, 0) == 0) position_ = 0;
}

int64_t MlflowSpool::waiting() const {
  const std::scoped_lock lock(mutex_);
  return std::max<int64_t>(last_ - sent_, 0);
}

int64_t MlflowSpool::unwritten() const {
  const std::scoped_lock lock(mutex_);
  return file_.buffered_lines();
}

int64_t MlflowSpool::lost() const {
  const std::scoped_lock lock(mutex_);
  return lost_;
}

}  // namespace troupe
