// Files of token ids.
#pragma once

#include "troupe/runtime/data/files/mapped_file.hpp"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

namespace troupe {

/// How a token is stored.
enum class TokenType { uint16, uint32 };

/// Token ids one after the other, mapped into memory: plain, as nanoGPT's prepare.py writes them
/// (https://github.com/karpathy/nanoGPT), or behind llm.c's header (https://github.com/karpathy/llm.c,
/// dev/data/data_common.py): 256 int32, of which the first three are 20240520, 1 and the number of tokens for uint16,
/// and 20240801, 7 and their number for uint32. Any thread may use it. The file must not become shorter meanwhile
/// (mapped_file.hpp).
class TokenFile {
 public:
  /// `type` is that of a file without a header, whose tokens could be of any. Throws UsageError naming the file: if it
  /// cannot be opened, if there is neither a header nor a type, or both and they differ, for a header of another
  /// version and one that does not fit the file's size, for no tokens, and for bytes that are no whole number of
  /// tokens.
  explicit TokenFile(const std::filesystem::path& path, std::optional<TokenType> type = std::nullopt,
                     AccessPattern access = AccessPattern::normal);

  /// Tokens.
  int64_t size() const { return size_; }
  TokenType type() const { return type_; }
  bool has_header() const { return offset_ > 0; }
  const std::filesystem::path& path() const { return file_->path(); }
  /// The first token: size() of uint16_t or uint32_t follow each other.
  const void* data() const { return file_->bytes().data() + offset_; }
  /// Asks the system to read `count` tokens from `first` on in the background.
  void will_need(int64_t first, int64_t count) const;
  /// Bytes that a token takes.
  int64_t token_bytes() const { return type_ == TokenType::uint16 ? 2 : 4; }
  /// Bytes before the first token.
  int64_t offset() const { return offset_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  TokenType type_ = TokenType::uint16;
  int64_t offset_ = 0;
  int64_t size_ = 0;
};

/// Writes tokens [N], whole numbers of any type, behind llm.c's header; the folder is made if it is missing. Afterwards
/// `path` is what it was before or the whole new file. Throws UsageError for what is no such sequence, for none and for
/// 2^31 tokens or more, which the header cannot count, and naming the first token that the type cannot hold; FileError
/// for what the file system refuses.
void write_token_file(const std::filesystem::path& path, const torch::Tensor& tokens, TokenType type);

}  // namespace troupe
