#include "troupe/runtime/sinks/trackio_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"
#include "troupe/runtime/sinks/append_file.hpp"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using Milliseconds = std::chrono::milliseconds;

// What a writer of metrics needs of schema 2; Trackio adds the tables of its other features when it opens the file.
constexpr const char* kTrackioSchema = R"(
CREATE TABLE IF NOT EXISTS metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
  timestamp TEXT NOT NULL, run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL,
  log_id TEXT, space_id TEXT);
CREATE TABLE IF NOT EXISTS configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
  run_name TEXT NOT NULL, config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id));
CREATE TABLE IF NOT EXISTS system_metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
  timestamp TEXT NOT NULL, run_name TEXT NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT);
CREATE TABLE IF NOT EXISTS traces (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
  run_name TEXT NOT NULL, step INTEGER NOT NULL, key TEXT NOT NULL, trace_index INTEGER, messages TEXT NOT NULL,
  metadata TEXT NOT NULL, search_text TEXT NOT NULL, log_id TEXT, space_id TEXT, spans TEXT NOT NULL DEFAULT '[]');
CREATE TABLE IF NOT EXISTS project_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pending_uploads (id INTEGER PRIMARY KEY AUTOINCREMENT, space_id TEXT NOT NULL,
  run_id TEXT, run_name TEXT, step INTEGER, file_path TEXT NOT NULL, relative_path TEXT, created_at TEXT NOT NULL,
  kind TEXT NOT NULL DEFAULT 'media', digest TEXT);
CREATE TABLE IF NOT EXISTS alerts (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,
  timestamp TEXT NOT NULL, run_name TEXT NOT NULL, title TEXT NOT NULL, text TEXT,
  level TEXT NOT NULL DEFAULT 'warn', step INTEGER, alert_id TEXT);
CREATE INDEX IF NOT EXISTS idx_pending_uploads_kind ON pending_uploads(kind);
CREATE INDEX IF NOT EXISTS idx_metrics_run_step ON metrics(run_id, step);
CREATE INDEX IF NOT EXISTS idx_metrics_run_timestamp ON metrics(run_id, timestamp);
CREATE INDEX IF NOT EXISTS idx_metrics_run_record ON metrics(run_id, run_name, timestamp);
CREATE UNIQUE INDEX IF NOT EXISTS idx_metrics_log_id ON metrics(log_id) WHERE log_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_metrics_pending ON metrics(space_id) WHERE space_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_configs_run_name ON configs(run_name);
CREATE INDEX IF NOT EXISTS idx_system_metrics_run_timestamp ON system_metrics(run_id, timestamp);
CREATE UNIQUE INDEX IF NOT EXISTS idx_system_metrics_log_id ON system_metrics(log_id) WHERE log_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_system_metrics_pending ON system_metrics(space_id) WHERE space_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_traces_run_step ON traces(run_id, step);
CREATE INDEX IF NOT EXISTS idx_traces_run_timestamp ON traces(run_id, timestamp);
CREATE INDEX IF NOT EXISTS idx_traces_search ON traces(search_text);
CREATE INDEX IF NOT EXISTS idx_alerts_run ON alerts(run_id);
CREATE INDEX IF NOT EXISTS idx_alerts_timestamp ON alerts(timestamp);
CREATE UNIQUE INDEX IF NOT EXISTS idx_alerts_alert_id ON alerts(alert_id) WHERE alert_id IS NOT NULL;
PRAGMA user_version = 2;
)";
constexpr int64_t kTrackioSchemaVersion = 2;

[[noreturn]] void refuse_trackio(sqlite3* database, const fs::path& path) {
  const std::string why = sqlite3_errmsg(database);
  const int code = sqlite3_errcode(database) & 0xFF;
  if (code == SQLITE_NOTADB) {
    throw UsageError("'" + path.string() + "' is no project of Trackio's: " + why +
                     "; move it away or choose another trackio.project");
  }
  throw TrackioFileError("cannot write '" + path.string() + "': " + why);
}

void run_sql(sqlite3* database, const fs::path& path, const char* sql) {
  if (sqlite3_exec(database, sql, nullptr, nullptr, nullptr) != SQLITE_OK) refuse_trackio(database, path);
}

/// A statement whose values are bound: no SQL is made of names.
class TrackioStatement {
 public:
  TrackioStatement(sqlite3* database, const fs::path& path, const char* sql) : database_(database), path_(path) {
    if (sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr) != SQLITE_OK) refuse_trackio(database, path);
  }
  TrackioStatement(const TrackioStatement&) = delete;
  TrackioStatement& operator=(const TrackioStatement&) = delete;
  ~TrackioStatement() { sqlite3_finalize(statement_); }

  void bind_text(int place, const std::string& text) {
    sqlite3_bind_text64(statement_, place, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  // Trackio's JSON is bytes in a column that is declared as text.
  void bind_json(int place, const std::string& json) {
    sqlite3_bind_blob64(statement_, place, json.data(), json.size(), SQLITE_STATIC);
  }
  void bind_integer(int place, int64_t value) { sqlite3_bind_int64(statement_, place, value); }

  /// Whether there is a row.
  bool next() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) refuse_trackio(database_, path_);
    return result == SQLITE_ROW;
  }
  int64_t integer(int column) { return sqlite3_column_int64(statement_, column); }
  std::string_view text(int column) {
    const auto* begin = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return begin ? begin : "";
  }
  void run() {
    (void)next();
    sqlite3_reset(statement_);
  }

 private:
  sqlite3* database_;
  const fs::path& path_;
  sqlite3_stmt* statement_ = nullptr;
};

/// The lock that all writers of a project take, until the end of its life.
class TrackioLock {
 public:
  TrackioLock(const fs::path& path, Milliseconds patience) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail("cannot write '" + path.string() + "'", errno);
    const auto end = std::chrono::steady_clock::now() + patience;
    constexpr Milliseconds between_tries{5};
    while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK && errno != EINTR) return;  // a file system without locks
      if (std::chrono::steady_clock::now() >= end) {
        fail("another process holds '" + path.string() + "'", errno);
      }
      std::this_thread::sleep_for(between_tries);
    }
  }
  TrackioLock(const TrackioLock&) = delete;
  TrackioLock& operator=(const TrackioLock&) = delete;
  ~TrackioLock() { ::close(descriptor_); }

 private:
  [[noreturn]] void fail(const std::string& what, int error) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw TrackioFileError(what + ": " + std::generic_category().message(error));
  }

  int descriptor_ = -1;
};

Milliseconds lock_patience(TrackioFile::Patience patience) {
  return Milliseconds(patience == TrackioFile::Patience::none ? 50 : 10'000);
}
int busy_patience(TrackioFile::Patience patience) {
  return patience == TrackioFile::Patience::none ? 50 : 30'000;
}

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// The name of the project's files: Trackio's canonical_project_name and validate_project_name.
std::string project_file_name(const std::string& project) {
  if (std::ranges::any_of(project, [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    throw UsageError("trackio: the project '" + shown(project) +
                     "' has letters outside of ASCII, whose file Trackio may name otherwise; set trackio.project");
  }
  std::string name;
  for (const char c : project) {
    if (is_letter_or_digit(c) || c == '-' || c == '_') name += c;
  }
  if (name.empty()) return "default";
  if (name.starts_with("registry-")) {
    throw UsageError("trackio: the project '" + shown(project) +
                     "' begins with 'registry-', which Trackio keeps for registries; set trackio.project");
  }
  constexpr std::array<std::string_view, 8> reserved{"_system",
                                                     "_configs",
                                                     "_traces",
                                                     "_artifacts",
                                                     "_artifact_versions",
                                                     "_artifact_aliases",
                                                     "_run_artifact_links",
                                                     "_external_run_artifact_links"};
  for (const auto ending : reserved) {
    if (name.size() > ending.size() && name.ends_with(ending)) {
      throw UsageError("trackio: the project '" + shown(project) + "' ends with '" + std::string(ending) +
                       "', as files beside a project do; set trackio.project");
    }
  }
  return name;
}

}  // namespace

std::filesystem::path trackio_folder(const fs::path& folder) {
  if (!folder.empty()) return folder;
  const auto variable = [](const char* name) { return environment_variable(name).value_or(""); };
  if (const auto own = variable("TRACKIO_DIR"); !own.empty()) return own;
  if (const auto home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "trackio";
  const auto cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(cache)) / "huggingface" / "trackio";
}

void TrackioFile::Close::operator()(sqlite3* database) const {
  sqlite3_close(database);
}

TrackioFile::TrackioFile(fs::path folder, const std::string& project) {
  const auto name = project_file_name(project);
  path_ = folder / (name + ".db");
  lock_path_ = folder / (name + ".lock");
}

TrackioFile::~TrackioFile() = default;

void TrackioFile::open(Patience patience) {
  if (database_) return;
  create_output_folder(path_.parent_path());
  const TrackioLock lock(lock_path_, lock_patience(patience));
  connect(patience);
}

void TrackioFile::connect(Patience patience) {
  sqlite3* database = nullptr;
  constexpr int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int result = sqlite3_open_v2(path_.c_str(), &database, flags, nullptr);
  database_.reset(database);
  try {
    if (result != SQLITE_OK) refuse_trackio(database, path_);
    sqlite3_busy_timeout(database, busy_patience(patience));
    run_sql(database, path_, "PRAGMA synchronous = NORMAL");
    int64_t schema = 0;
    {
      TrackioStatement version(database, path_, "PRAGMA user_version");
      (void)version.next();
      schema = version.integer(0);
    }
    if (schema < kTrackioSchemaVersion) create_tables();
  } catch (const std::exception&) {
    database_.reset();
    throw;
  }
}

void TrackioFile::create_tables() {
  auto* database = database_.get();
  {
    TrackioStatement columns(database, path_, "SELECT name FROM pragma_table_info('metrics')");
    bool is_there = false, has_run_id = false;
    while (columns.next()) {
      is_there = true;
      has_run_id = has_run_id || columns.text(0) == "run_id";
    }
    if (is_there && !has_run_id) {
      throw UsageError("'" + path_.string() +
                       "' is a table of metrics without run_id, as Trackio before 0.24 made it: open the project with"
                       " a newer Trackio once, or choose another trackio.project");
    }
    if (is_there) return;  // version 1: Trackio finishes it
  }
  run_sql(database, path_, "PRAGMA journal_mode = WAL");
  run_sql(database, path_, (std::string("BEGIN IMMEDIATE;") + kTrackioSchema + "COMMIT;").c_str());
}

void TrackioFile::write(const TrackioBatch& batch, const std::string& run_id, const std::string& run_name,
                        Patience patience) {
  open(patience);
  auto* database = database_.get();
  const TrackioLock lock(lock_path_, lock_patience(patience));
  sqlite3_busy_timeout(database, busy_patience(patience));
  try {
    run_sql(database, path_, "BEGIN IMMEDIATE");
    TrackioStatement insert(database, path_,
                            "INSERT INTO metrics (run_id, run_name, timestamp, step, metrics) VALUES (?, ?, ?, ?, ?)");
    insert.bind_text(1, run_id);
    insert.bind_text(2, run_name);
    for (const auto& row : batch.rows) {
      insert.bind_text(3, row.time);
      insert.bind_integer(4, row.step);
      insert.bind_json(5, row.values);
      insert.run();
    }
    if (!batch.config.empty()) {
      TrackioStatement config(database, path_,
                              "INSERT INTO configs (run_id, run_name, config, created_at) VALUES (?, ?, ?,"
                              " strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) ON CONFLICT (run_id) DO UPDATE SET"
                              " config = excluded.config");
      config.bind_text(1, run_id);
      config.bind_text(2, run_name);
      config.bind_json(3, batch.config);
      config.run();
    }
    for (const auto& alert : batch.alerts) {
      TrackioStatement add(database, path_,
                           "INSERT INTO alerts (run_id, run_name, timestamp, title, text, level, step) VALUES"
                           " (?, ?, ?, ?, ?, ?, ?)");
      add.bind_text(1, run_id);
      add.bind_text(2, run_name);
      add.bind_text(3, alert.time);
      add.bind_text(4, alert.title);
      add.bind_text(5, alert.text);
      add.bind_text(6, alert.level);
      add.bind_integer(7, alert.step);
      add.run();
    }
    run_sql(database, path_, "COMMIT");
  } catch (const std::exception&) {
    database_.reset();  // which rolls back; the next write opens it anew
    throw;
  }
}

}  // namespace troupe
