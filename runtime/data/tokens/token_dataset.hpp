// Windows of tokens, for models that learn what comes next.
#pragma once

#include "troupe/modules/data/dataset.hpp"
#include "troupe/runtime/data/tokens/documents.hpp"
#include "troupe/runtime/data/tokens/token_file.hpp"
#include "troupe/runtime/data/tokens/token_windows.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace troupe {

struct TokenDatasetOptions {
  /// Tokens from the beginning of a window to that of the next; 0: `length`, so that windows do not overlap.
  int64_t stride = 0;
  /// The type of files without a header (TokenFile).
  std::optional<TokenType> type = std::nullopt;
  /// Refuse tokens that are not below this; 0: take what is there. The check is of the windows that are asked for.
  int64_t vocabulary = 0;
  /// Where documents begin and end: samples then say it too.
  std::optional<DocumentOptions> documents = std::nullopt;
};

/// Sample i has the `length` tokens of window i as "input" and those that follow each of them as "target", both int64
/// [length]. Windows follow each other through the files in the order given, `stride` apart; none crosses from one file
/// into the next, and tokens at the end of a file that fill no window are left out. A batch is copied once, from where
/// the tokens lie into its own memory. 10^10 windows take as much memory as one. If the files are larger than half of
/// the machine's memory, the windows of a batch are asked for before the first one is copied, so that the disk reads
/// them at once. Any thread may call.
///
///     auto data = std::make_shared<TokenDataset>(files, 1024, TokenDatasetOptions{.vocabulary = 50257});
///
/// With `documents`, windows are documents packed to length, one after the other and cut where a window ends (what
/// nanoGPT, llm.c and Megatron-LM train on), and a sample says which token is of which:
///
/// - "document_ids", int64 [length]: 0 for the first document of the window, counted up at each further one
///   (document_attention_mask makes a mask for attention of them);
/// - "position_ids", int64 [length]: from 0 in each document, and from 0 at the window's beginning;
/// - "loss_mask", bool [length]: false if the target is of another document than the input.
class TokenDataset : public Dataset {
 public:
  /// Maps the files. Throws UsageError as TokenFile does, for no files, length < 1, stride < 0, vocabulary < 0, if no
  /// file is long enough for a window, and as Documents does.
  TokenDataset(const std::vector<std::filesystem::path>& files, int64_t length, TokenDatasetOptions options = {});
  /// Of tokens in memory, [N] of whole numbers, bytes for example. They must not change meanwhile; what is not on the
  /// CPU is copied to it.
  TokenDataset(torch::Tensor tokens, int64_t length, TokenDatasetOptions options = {});

  int64_t size() const override { return windows_.size(); }
  /// Throws UsageError for an index outside of the dataset, and for a token beyond the vocabulary, naming file,
  /// position and value.
  Batch get(int64_t index) override;
  std::optional<Batch> get_batch(at::IntArrayRef indices) override;
  /// The files, in the order given; none for tokens in memory.
  const std::vector<TokenFile>& files() const { return files_; }
  /// Of all files, those in no window included.
  int64_t token_count() const;

 private:
  void prepare(std::vector<TokenSequence> sequences);
  std::vector<TokenWindows::Place> places_of(at::IntArrayRef indices) const;
  Batch batch_of(at::IntArrayRef indices) const;
  [[noreturn]] void refuse_token(const TokenWindows::Place& place) const;

  bool reads_ahead_ = false;  // what is not in memory yet
  std::vector<TokenFile> files_;
  torch::Tensor tokens_;  // undefined for files
  int64_t length_;
  TokenDatasetOptions options_;
  TokenWindows windows_;
  std::optional<Documents> documents_;
};

}  // namespace troupe
