// What the files of a sample become.
#pragma once

#include <torch/types.h>

#include <any>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

/// A tensor of the sample, or another value, which goes into its `extra`.
using FieldValue = std::variant<torch::Tensor, std::any>;

/// Makes a value of a file's content, which stays until it returns. `name` is what errors should call the file. Called
/// from several fetchers at once; random numbers come from the thread's generator, as in Dataset::get.
using FieldDecoder = std::function<FieldValue(std::span<const std::byte> content, const std::string& name)>;

/// Values of a sample that are no tensors, by the names of their fields: what Batch::extra of a sample holds if there
/// are any. A batch has a std::vector<std::any> of them.
using FieldValues = std::map<std::string, std::any>;

/// One of the values of a sample, as WebDataset's to_tuple takes it.
struct TarField {
  TarField(const char* field_extensions, std::string field_name = "")  // NOLINT(google-explicit-constructor)
      : extensions(field_extensions), name(std::move(field_name)) {}
  TarField(std::string field_extensions, std::string field_name = "")  // NOLINT(google-explicit-constructor)
      : extensions(std::move(field_extensions)), name(std::move(field_name)) {}

  /// "jpg;jpeg;png": the first of these files that the sample has. "__key__": the sample's key, a std::string.
  std::string extensions;
  /// Name of the tensor in the batch; empty: none. A value that is no tensor is called by this, else by `extensions`.
  std::string name;
};

/// What is done with a file.
struct FieldKind {
  enum class Value {
    unknown,  ///< there is no decoder
    image,    ///< the dataset decodes it, with memory of its own
    number,   ///< class_number
    other,    ///< `decode`
  };
  Value value = Value::unknown;
  FieldDecoder decode = nullptr;
};

/// What is done with a file of `extension`, of which the part behind the last dot counts ("seg.png" is decoded as
/// "png"): one of `own`, by the whole extension or that part, else what the library does.
FieldKind field_kind(const std::string& extension, const std::map<std::string, FieldDecoder>& own);

/// The whole number that a file holds as text. Throws UsageError with `name` if it holds anything else.
int64_t class_number(std::span<const std::byte> content, const std::string& name);

/// The extensions that the library decodes.
std::vector<std::string> decoded_extensions();

}  // namespace troupe
