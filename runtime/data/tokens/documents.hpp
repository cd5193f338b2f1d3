// Where documents begin in a sequence of tokens.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/runtime/data/tokens/token_windows.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace troupe {

/// One of the first three says where a document begins.
struct DocumentOptions {
  /// Each document ends with this token: 50256 in files of nanoGPT's and Megatron-LM's, and in llm.c's for GPT-2, where
  /// it stands before each document and so ends the one before.
  std::optional<int64_t> end_of_text = std::nullopt;
  /// Each document begins with this token: 128000 in llm.c's files for Llama 3.
  std::optional<int64_t> begin_of_text = std::nullopt;
  /// The first tokens of documents, int64 [D] for each file, in ascending order.
  std::vector<torch::Tensor> starts = {};
  /// What samples say (TokenDataset).
  bool document_ids = true, position_ids = true, loss_mask = true;
};

/// Finds the documents of windows and writes down what a sample says of them. Any thread may use it.
class Documents {
 public:
  /// Throws UsageError if not exactly one of the three is given, for a token below 0, and for starts that are not one
  /// ascending list of places a sequence.
  Documents(DocumentOptions options, const std::vector<TokenSequence>& sequences, int64_t length);

  /// Appends the tensors of `rows` windows to `batch`, with memory to be filled.
  void append_memory(Batch& batch, int64_t rows) const;
  /// Fills row `row` for a window: `input` and `target` are its tokens.
  void fill(const TokenWindows::Place& place, const int64_t* input, const int64_t* target, Batch& batch,
            int64_t row) const;

 private:
  /// Where further documents begin in the window, 1 .. length.
  void find(const TokenWindows::Place& place, const int64_t* input, const int64_t* target,
            std::vector<int64_t>& begins) const;

  DocumentOptions options_;
  int64_t length_;
};

/// Which tokens one may look at: those of its own document that are not behind it. `document_ids` [T] gives [T, T],
/// [N, T] gives [N, 1, T, T]; bool, true at [i, j] if token i may look at token j. This is the attn_mask of
/// at::scaled_dot_product_attention (with is_causal false). It takes T * T bytes a sample.
torch::Tensor document_attention_mask(const torch::Tensor& document_ids);

}  // namespace troupe
