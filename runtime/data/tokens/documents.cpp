#include "troupe/runtime/data/tokens/documents.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

namespace troupe {

namespace {

void check_starts(torch::Tensor& starts, int64_t tokens, std::size_t number) {
  const auto name = "documents.starts[" + std::to_string(number) + "]";
  if (!starts.defined() || starts.dim() != 1 || starts.scalar_type() != torch::kInt64) {
    throw UsageError(name +
                     (starts.defined()
                          ? " is [" + joined(starts.sizes()) + "] of " + c10::toString(starts.scalar_type())
                          : std::string(" is undefined")) +
                     "; the first tokens of documents were expected, int64 [D]");
  }
  starts = starts.to(torch::kCPU).contiguous();
  const auto* const at = starts.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < starts.numel(); ++i) {
    if (at[i] >= 0 && at[i] < tokens && (i == 0 || at[i] > at[i - 1])) continue;
    throw UsageError(name + "[" + std::to_string(i) + "] is " + std::to_string(at[i]) +
                     (i > 0 && at[i] <= at[i - 1] ? ", not above the one before it"
                                                  : ", outside of the " + std::to_string(tokens) + " tokens"));
  }
}

int64_t* row_of_numbers(Batch& batch, const char* name, int64_t row, int64_t length) {
  return batch[name].mutable_data_ptr<int64_t>() + row * length;
}

}  // namespace

Documents::Documents(DocumentOptions options, const std::vector<TokenSequence>& sequences, int64_t length)
    : options_(std::move(options)), length_(length) {
  auto& starts = options_.starts;
  const int given = (options_.end_of_text ? 1 : 0) + (options_.begin_of_text ? 1 : 0) + (starts.empty() ? 0 : 1);
  if (given != 1) {
    throw UsageError(std::string("documents: ") + (given == 0 ? "none" : "more than one") +
                     " of end_of_text, begin_of_text and starts is given; one of them says where documents begin");
  }
  const int64_t token = options_.end_of_text.value_or(options_.begin_of_text.value_or(0));
  if (token < 0) throw UsageError("documents: no token is " + std::to_string(token) + "; use one from 0 on");
  if (!starts.empty() && starts.size() != sequences.size()) {
    throw UsageError("documents.starts has " + std::to_string(starts.size()) + " tensors for " +
                     std::to_string(sequences.size()) + " files; give one for each");
  }
  for (std::size_t i = 0; i < starts.size(); ++i) check_starts(starts[i], sequences[i].size, i);
}

void Documents::append_memory(Batch& batch, int64_t rows) const {
  if (options_.document_ids) batch.append("document_ids", at::empty({rows, length_}, torch::kInt64));
  if (options_.position_ids) batch.append("position_ids", at::empty({rows, length_}, torch::kInt64));
  if (options_.loss_mask) batch.append("loss_mask", at::empty({rows, length_}, torch::kBool));
}

void Documents::find(const TokenWindows::Place& place, const int64_t* input, const int64_t* target,
                     std::vector<int64_t>& begins) const {
  begins.clear();
  if (!options_.starts.empty()) {
    const auto& starts = options_.starts[place.sequence];
    const auto *const begin = starts.const_data_ptr<int64_t>(), *const end = begin + starts.numel();
    for (auto at = std::upper_bound(begin, end, place.first); at != end && *at <= place.first + length_; ++at) {
      begins.push_back(*at - place.first);
    }
    return;
  }
  // Token i + 1 of the window begins a document.
  const int64_t* const tokens = options_.end_of_text ? input : target;
  const int64_t wanted = options_.end_of_text ? *options_.end_of_text : *options_.begin_of_text;
  for (const int64_t* at = tokens; (at = std::find(at, tokens + length_, wanted)) != tokens + length_; ++at) {
    begins.push_back(at - tokens + 1);
  }
}

void Documents::fill(const TokenWindows::Place& place, const int64_t* input, const int64_t* target, Batch& batch,
                     int64_t row) const {
  std::vector<int64_t> begins;
  find(place, input, target, begins);
  int64_t* const ids = options_.document_ids ? row_of_numbers(batch, "document_ids", row, length_) : nullptr;
  int64_t* const positions = options_.position_ids ? row_of_numbers(batch, "position_ids", row, length_) : nullptr;
  for (std::size_t i = 0; i <= begins.size(); ++i) {
    const int64_t begin = i == 0 ? 0 : begins[i - 1];
    const int64_t end = i == begins.size() ? length_ : std::min(begins[i], length_);
    if (ids) std::fill(ids + begin, ids + end, static_cast<int64_t>(i));
    if (positions) std::iota(positions + begin, positions + end, int64_t{0});
  }
  if (!options_.loss_mask) return;
  bool* const mask = batch["loss_mask"].mutable_data_ptr<bool>() + row * length_;
  std::fill(mask, mask + length_, true);
  for (const int64_t begin : begins) mask[begin - 1] = false;
}

torch::Tensor document_attention_mask(const torch::Tensor& document_ids) {
  if (!document_ids.defined() || document_ids.dim() < 1 || document_ids.dim() > 2) {
    throw UsageError(
        "document_attention_mask: document_ids " +
        (document_ids.defined() ? "are [" + joined(document_ids.sizes()) + "]" : std::string("are undefined")) +
        "; [T] or [N, T] was expected");
  }
  const auto ids = document_ids.dim() == 1 ? document_ids : document_ids.unsqueeze(1);
  return (ids.unsqueeze(-1) == ids.unsqueeze(-2)).tril();
}

}  // namespace troupe
