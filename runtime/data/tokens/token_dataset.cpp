#include "troupe/runtime/data/tokens/token_dataset.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include <unistd.h>

namespace troupe {

namespace {

torch::Tensor checked_tokens(const torch::Tensor& tokens) {
  if (!tokens.defined()) throw UsageError("TokenDataset: the tokens are undefined");
  if (tokens.dim() != 1 || !c10::isIntegralType(tokens.scalar_type(), /*includeBool=*/false)) {
    throw UsageError("TokenDataset: the tokens are [" + joined(tokens.sizes()) + "] of " +
                     c10::toString(tokens.scalar_type()) + "; a sequence [N] of whole numbers was expected");
  }
  const bool is_wide = tokens.scalar_type() == torch::kUInt64;
  return tokens.to(torch::kCPU, is_wide ? torch::kInt64 : tokens.scalar_type()).contiguous();
}

/// Whether the system cannot be expected to keep the files in memory once they were read. One that cannot be opened is
/// refused later.
bool exceed_half_of_memory(const std::vector<std::filesystem::path>& paths) {
  uintmax_t bytes = 0;
  for (const auto& path : paths) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    bytes += error ? 0 : size;
  }
  static const auto memory = static_cast<uintmax_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  return bytes > memory / 2;
}

std::vector<TokenFile> mapped_token_files(const std::vector<std::filesystem::path>& paths,
                                          std::optional<TokenType> type, AccessPattern access) {
  if (paths.empty()) throw UsageError("TokenDataset: no file of tokens was named");
  std::vector<TokenFile> out;
  out.reserve(paths.size());
  for (const auto& path : paths) out.emplace_back(path, type, access);
  return out;
}

}  // namespace

TokenDataset::TokenDataset(const std::vector<std::filesystem::path>& files, int64_t length, TokenDatasetOptions options)
    : reads_ahead_(exceed_half_of_memory(files)),
      files_(mapped_token_files(files, options.type, reads_ahead_ ? AccessPattern::random : AccessPattern::normal)),
      length_(length),
      options_(std::move(options)) {
  std::vector<TokenSequence> sequences;
  for (const auto& file : files_) {
    const auto dtype = file.type() == TokenType::uint16 ? torch::kUInt16 : torch::kUInt32;
    sequences.push_back({.data = file.data(), .size = file.size(), .dtype = dtype});
  }
  prepare(std::move(sequences));
}

TokenDataset::TokenDataset(torch::Tensor tokens, int64_t length, TokenDatasetOptions options)
    : tokens_(checked_tokens(tokens)), length_(length), options_(std::move(options)) {
  prepare({{.data = tokens_.const_data_ptr(), .size = tokens_.numel(), .dtype = tokens_.scalar_type()}});
}

void TokenDataset::prepare(std::vector<TokenSequence> sequences) {
  if (length_ < 1) throw UsageError("TokenDataset: length = " + std::to_string(length_) + "; use at least 1");
  if (options_.stride < 0) {
    throw UsageError("TokenDataset: stride = " + std::to_string(options_.stride) + "; use at least 1");
  }
  if (options_.vocabulary < 0) {
    throw UsageError("TokenDataset: vocabulary = " + std::to_string(options_.vocabulary) +
                     "; use the number of tokens");
  }
  const auto longest = std::ranges::max_element(sequences, {}, &TokenSequence::size);
  if (longest->size <= length_) {
    const auto where = files_.empty() ? "TokenDataset" : files_[longest - sequences.begin()].path().string();
    throw UsageError(where + ": " + std::to_string(longest->size) + " tokens are too few for windows of " +
                     std::to_string(length_) + " and the one that follows; use a length below " +
                     std::to_string(longest->size));
  }
  if (options_.documents) documents_.emplace(*options_.documents, sequences, length_);
  windows_ = TokenWindows(std::move(sequences), length_, options_.stride == 0 ? length_ : options_.stride);
}

int64_t TokenDataset::token_count() const {
  int64_t out = 0;
  for (const auto& sequence : windows_.sequences()) out += sequence.size;
  return out;
}

void TokenDataset::refuse_token(const TokenWindows::Place& place) const {
  const int64_t position = windows_.first_beyond(place, options_.vocabulary - 1);
  auto where = "token " + std::to_string(position);
  if (!files_.empty()) {
    const auto& file = files_[place.sequence];
    where = file.path().string() + ": " + where + " (byte " +
            std::to_string(file.offset() + position * file.token_bytes()) + ")";
  }
  throw UsageError(where + " is " + std::to_string(windows_.token(place.sequence, position)) +
                   ", outside of the vocabulary of " + std::to_string(options_.vocabulary) + " (0 to " +
                   std::to_string(options_.vocabulary - 1) + ")");
}

std::vector<TokenWindows::Place> TokenDataset::places_of(at::IntArrayRef indices) const {
  std::vector<TokenWindows::Place> out;
  out.reserve(indices.size());
  for (const int64_t index : indices) {
    if (index < 0 || index >= size()) {
      throw UsageError("window " + std::to_string(index) + " is not one of the " + std::to_string(size()));
    }
    out.push_back(windows_.place(index));
  }
  return out;
}

Batch TokenDataset::batch_of(at::IntArrayRef indices) const {
  const auto places = places_of(indices);
  if (reads_ahead_) {
    for (const auto& place : places) files_[place.sequence].will_need(place.first, length_ + 1);
  }
  const auto rows = static_cast<int64_t>(places.size());
  const int64_t highest = options_.vocabulary > 0 ? options_.vocabulary - 1 : std::numeric_limits<int64_t>::max();
  Batch out{{"input", at::empty({rows, length_}, torch::kInt64)},
            {"target", at::empty({rows, length_}, torch::kInt64)}};
  if (documents_) documents_->append_memory(out, rows);
  auto* input = out[0].mutable_data_ptr<int64_t>();
  auto* target = out[1].mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row, input += length_, target += length_) {
    const auto& place = places[static_cast<std::size_t>(row)];
    if (!windows_.copy(place, highest, input, target)) refuse_token(place);
    if (documents_) documents_->fill(place, input, target, out, row);
  }
  return out;
}

Batch TokenDataset::get(int64_t index) {
  auto out = batch_of(index);
  for (auto& tensor : out.tensors()) tensor = tensor.squeeze(0);
  return out;
}

std::optional<Batch> TokenDataset::get_batch(at::IntArrayRef indices) {
  return batch_of(indices);
}

}  // namespace troupe
