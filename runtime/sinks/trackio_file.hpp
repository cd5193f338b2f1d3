// A project of Trackio's: one SQLite file that several processes write at the same time.
//
// There is no server between the writers and no other description of the file than the program itself:
// https://github.com/gradio-app/trackio, trackio/sqlite_storage.py (version 0.43, schema 2).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct sqlite3;

namespace troupe {

/// The project's file was held by somebody else for as long as was waited, or could not be written.
class TrackioFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What is written at once.
struct TrackioBatch {
  /// Metrics of one moment. Times are ISO 8601 in UTC, values a JSON object.
  struct Row {
    std::string time;
    int64_t step = 0;
    std::string values;
  };
  struct Alert {
    std::string time, title, text, level;  ///< level: "info", "warn" or "error"
    int64_t step = 0;
  };

  std::vector<Row> rows;
  std::vector<Alert> alerts;
  std::string config;  ///< a JSON object; empty: as it was
};

/// Trackio takes an advisory lock on `<project>.lock` around each write, and so does this. Used from one thread.
class TrackioFile {
 public:
  /// How long one write may wait for others.
  enum class Patience {
    none,  ///< 50 ms: a run goes on
    long_  ///< 10 s for the lock and 30 s for the file, as Trackio does
  };

  /// Opens nothing yet. Throws UsageError for a name that Trackio refuses, and for one with letters outside of ASCII,
  /// whose file's name would depend on Python's tables of Unicode.
  TrackioFile(std::filesystem::path folder, const std::string& project);
  ~TrackioFile();

  /// Creates folder and file if they are missing. Throws UsageError for a file that is not Trackio's or too old, and
  /// TrackioFileError.
  void open(Patience patience);
  /// In one transaction: all of it or nothing. Throws as open, which it calls if needed.
  void write(const TrackioBatch& batch, const std::string& run_id, const std::string& run_name, Patience patience);

  const std::filesystem::path& path() const { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };

  void connect(Patience patience);
  void create_tables();

  std::filesystem::path path_, lock_path_;
  std::unique_ptr<sqlite3, Close> database_;
};

/// `folder` if it is not empty, else TRACKIO_DIR, else the folder `trackio` in HF_HOME or in the cache of Hugging Face.
std::filesystem::path trackio_folder(const std::filesystem::path& folder);

}  // namespace troupe
