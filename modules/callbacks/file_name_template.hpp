// File names with metrics in them: "{epoch:02d}-{val_loss:.2f}".
#pragma once

#include "troupe/modules/progress.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace troupe {

/// A parsed template. A field is {name} or {name:format}; name is `epoch`, `step` (the global step) or a metric, and
/// format is, as in Python, [0][width][.precision][d|f|e|g]: d for epoch and step only, width at most 32, precision at
/// most 17. Metrics without a format get the shortest text that gives the value back.
///
/// The result is one path component without an extension: '/' and control characters in the names of metrics become
/// '_', in the rest of the template they are refused.
class FileNameTemplate {
 public:
  /// With `insert_names`, "{epoch}" gives "epoch=3"; else "3". An extension ".safetensors" is taken off. Throws
  /// UsageError if `text` is not such a template, or gives names of more than 200 bytes.
  FileNameTemplate(std::string text, bool insert_names);

  /// `value_of` gives the value of a metric; it is called for each that the template names.
  std::string format(const Progress& progress, const std::function<double(const std::string&)>& value_of) const;

 private:
  struct Field {
    std::string name;
    bool zero_padded = false;
    int width = 0;
    int precision = -1;  // -1: none given
    char type = 0;       // 0: none given
  };
  struct Piece {
    std::string before;  // literal text, which may end with "name="
    Field field;         // without a name: nothing follows the text
  };

  Field parse_field(const std::string& inside) const;
  std::string formatted(const Field& field, const Progress& progress,
                        const std::function<double(const std::string&)>& value_of) const;
  void check_length() const;
  [[noreturn]] void refuse(const std::string& why) const;

  std::string text_;
  std::vector<Piece> pieces_;
};

}  // namespace troupe
