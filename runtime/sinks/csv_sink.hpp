// Metrics as a table: <folder>/metrics.csv, as Lightning's CSVLogger writes it.
#pragma once

#include "troupe/modules/record.hpp"
#include "troupe/runtime/sinks/append_file.hpp"

#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe {

/// Writes one row a ScalarsRecord and ignores the other records.
///
/// The columns are `epoch` and `step`, then the metrics in the order of their first appearance. A cell is empty where
/// a record has no value. Numbers are the shortest that read back as the same double; nan, inf and -inf are written so.
/// A metric called "epoch" or "step" takes the place of the record's own, as in Lightning.
///
/// A metric that appears later adds a column: the file is written anew beside the old one and takes its name, so that
/// no row is lost if that fails. A file that exists already is continued; a last row that was cut short (a full disk, a
/// power failure) is removed then.
///
/// Used from one thread. Failed writes throw std::runtime_error with the path and the reason.
class CsvSink : public Sink {
 public:
  /// Creates `folder` if it is missing. Throws UsageError with path and reason when it can not be written, or when
  /// metrics.csv exists and is something else than a table of metrics.
  explicit CsvSink(const std::filesystem::path& folder);

  std::string name() const override { return "csv"; }
  void write(const Record& record) override;
  void flush() override { file_.flush(); }

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  void write_row(const ScalarsRecord& record);
  void add_columns(const std::vector<std::string>& names);

  std::vector<std::string> columns_;
  std::unordered_map<std::string, std::size_t> positions_;
  AppendFile file_;
};

}  // namespace troupe
