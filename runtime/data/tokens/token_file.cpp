#include "troupe/runtime/data/tokens/token_file.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace troupe {

namespace {

constexpr std::size_t kTokenHeaderNumbers = 256;
constexpr std::size_t kTokenHeaderBytes = kTokenHeaderNumbers * sizeof(int32_t);
constexpr int32_t kEvaluationMagic = 20240522;  // of llm.c's multiple-choice files, such as HellaSwag's

/// What llm.c writes for a type.
struct TokenHeaderKind {
  int32_t magic;
  int32_t version;
  TokenType type;
  const char* name;
};
constexpr std::array<TokenHeaderKind, 2> kTokenHeaders = {
    {{20240520, 1, TokenType::uint16, "uint16"}, {20240801, 7, TokenType::uint32, "uint32"}}};

const TokenHeaderKind& header_kind(TokenType type) {
  return kTokenHeaders[type == TokenType::uint16 ? 0 : 1];
}

int32_t header_number(std::span<const std::byte> bytes, std::size_t position) {
  int32_t out = 0;
  std::memcpy(&out, bytes.data() + position * sizeof(out), sizeof(out));
  return out;
}

/// The header that a file begins with, or null: it has none. Throws for one that cannot be trusted.
const TokenHeaderKind* checked_header(std::span<const std::byte> bytes, const std::string& path,
                                      std::optional<TokenType> given) {
  if (bytes.size() < 3 * sizeof(int32_t)) return nullptr;
  const auto magic = header_number(bytes, 0), version = header_number(bytes, 1), count = header_number(bytes, 2);
  if (magic == kEvaluationMagic && version == 1 && !given) {
    throw UsageError(path + " is an evaluation file of llm.c's (magic 20240522), no sequence of tokens");
  }
  const auto kind = std::ranges::find(kTokenHeaders, magic, &TokenHeaderKind::magic);
  if (kind == kTokenHeaders.end()) return nullptr;
  const auto begins = path + " begins with llm.c's header for " + kind->name + " (magic " + std::to_string(magic) + ")";
  if (version != kind->version) {
    throw UsageError(begins + ", of version " + std::to_string(version) + "; version " + std::to_string(kind->version) +
                     " is read");
  }
  if (given && *given != kind->type) {
    throw UsageError(begins + ", but TokenType::" + header_kind(*given).name + " was given; leave it out");
  }
  const int64_t expected =
      static_cast<int64_t>(kTokenHeaderBytes) + int64_t{count} * (kind == &kTokenHeaders[0] ? 2 : 4);
  const auto size = static_cast<int64_t>(bytes.size());
  if (count < 0 || expected != size) {
    throw UsageError(begins + " and " + std::to_string(count) + " tokens, which take " + std::to_string(expected) +
                     " bytes with it; the file has " + std::to_string(size) +
                     (expected > size ? ": it is cut off" : ""));
  }
  return &*kind;
}

/// The numbers as they lie in the file.
template <class Token>
std::vector<Token> stored_tokens(const torch::Tensor& tokens, const char* type) {
  const auto numbers = tokens.to(torch::kCPU, torch::kInt64).contiguous();
  const std::span values(numbers.const_data_ptr<int64_t>(), static_cast<std::size_t>(numbers.numel()));
  std::vector<Token> out;
  out.reserve(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] > int64_t{std::numeric_limits<Token>::max()}) {
      throw UsageError("token " + std::to_string(i) + " is " + std::to_string(values[i]) + ", which " + type +
                       " cannot hold (0 to " + std::to_string(std::numeric_limits<Token>::max()) + ")");
    }
    out.push_back(static_cast<Token>(values[i]));
  }
  return out;
}

}  // namespace

TokenFile::TokenFile(const std::filesystem::path& path, std::optional<TokenType> type, AccessPattern access)
    : file_(std::make_shared<const MappedFile>(path, MapOptions{.access = access})) {
  const auto bytes = file_->bytes();
  const auto name = path.string();
  if (bytes.empty()) throw UsageError(name + " is empty; a file of tokens was expected");
  if (const auto* header = checked_header(bytes, name, type)) {
    type_ = header->type;
    offset_ = static_cast<int64_t>(kTokenHeaderBytes);
  } else if (type) {
    type_ = *type;
  } else {
    throw UsageError(name +
                     " does not begin with llm.c's header (magic 20240520 for uint16, 20240801 for uint32); if it is "
                     "plain tokens, say of which type: TokenType::uint16 (nanoGPT's) or TokenType::uint32");
  }
  const auto left = static_cast<int64_t>(bytes.size()) - offset_;
  if (left % token_bytes() != 0) {
    throw UsageError(name + " has " + std::to_string(left) + " bytes, which is no whole number of " +
                     header_kind(type_).name + " tokens of " + std::to_string(token_bytes()) +
                     " bytes; it is cut off, or of another type");
  }
  size_ = left / token_bytes();
  if (size_ == 0) throw UsageError(name + " has a header and no tokens");
}

void TokenFile::will_need(int64_t first, int64_t count) const {
  file_->will_need(static_cast<std::size_t>(offset_ + first * token_bytes()),
                   static_cast<std::size_t>(count * token_bytes()));
}

void write_token_file(const std::filesystem::path& path, const torch::Tensor& tokens, TokenType type) {
  const auto& kind = header_kind(type);
  if (!tokens.defined() || tokens.dim() != 1 || tokens.numel() == 0 ||
      !c10::isIntegralType(tokens.scalar_type(), /*includeBool=*/false)) {
    throw UsageError(
        "cannot write " + path.string() + ": a sequence [N] of whole numbers was expected as tokens, these " +
        (tokens.defined() ? "are [" + joined(tokens.sizes()) + "] of " + c10::toString(tokens.scalar_type())
                          : std::string("are undefined")));
  }
  if (tokens.numel() > std::numeric_limits<int32_t>::max()) {
    throw UsageError("cannot write " + path.string() + ": llm.c's header counts up to 2147483647 tokens, these are " +
                     std::to_string(tokens.numel()) + "; divide them among files");
  }
  std::array<int32_t, kTokenHeaderNumbers> header{kind.magic, kind.version, static_cast<int32_t>(tokens.numel())};
  const auto write = [&](const auto& stored) {
    write_atomically(path, [&](OutputFile& file) {
      file.write(std::as_bytes(std::span(header)));
      file.write(std::as_bytes(std::span(stored)));
    });
  };
  if (type == TokenType::uint16) return write(stored_tokens<uint16_t>(tokens, kind.name));
  write(stored_tokens<uint32_t>(tokens, kind.name));
}

}  // namespace troupe
