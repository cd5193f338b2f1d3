// The unit of data that travels from a dataset to a step.
#pragma once

#include <torch/types.h>

#include <any>
#include <array>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// Ordered, optionally named tensors, and one `std::any` for whatever else a user carries.
///
/// A *sample* (what `Dataset::get` returns) has no batch dimension; a *batch* (what a step receives) has it first in
/// every tensor. A Batch is a value: copying it copies tensor handles, not their memory.
///
///     auto [x, y] = batch.get<2>();      // by position
///     auto image = batch["image"];       // by name
class Batch {
 public:
  Batch() = default;
  Batch(std::initializer_list<torch::Tensor> tensors) : tensors_(tensors) {}
  explicit Batch(std::vector<torch::Tensor> tensors) : tensors_(std::move(tensors)) {}
  /// Named tensors; throws std::invalid_argument when a name repeats.
  Batch(std::initializer_list<std::pair<std::string, torch::Tensor>> named);

  /// The tensor at `position`; throws std::out_of_range naming the number of tensors held.
  const torch::Tensor& operator[](int position) const { return at(position); }
  torch::Tensor& operator[](int position) { return const_cast<torch::Tensor&>(at(position)); }
  /// The tensor called `name`; throws std::out_of_range listing the names held.
  const torch::Tensor& operator[](std::string_view name) const;
  torch::Tensor& operator[](std::string_view name);

  /// The first N tensors, for structured bindings; throws std::out_of_range when there are fewer.
  template <std::size_t N>
  std::array<torch::Tensor, N> get() const {
    if (N > tensors_.size()) throw_too_few(N);
    std::array<torch::Tensor, N> out;
    for (std::size_t i = 0; i < N; ++i) out[i] = tensors_[i];
    return out;
  }

  void append(torch::Tensor tensor) { append({}, std::move(tensor)); }
  /// Appends a named tensor; an empty name means none.
  void append(std::string name, torch::Tensor tensor);

  std::size_t tensor_count() const { return tensors_.size(); }
  bool empty() const { return tensors_.empty() && !extra.has_value(); }
  const std::vector<torch::Tensor>& tensors() const { return tensors_; }
  std::vector<torch::Tensor>& tensors() { return tensors_; }
  /// As long as tensors(), or empty when no tensor has a name.
  const std::vector<std::string>& names() const { return names_; }

  /// Batches of several training loaders together, one of each; see TrainerOptions::multiple_trainloader_mode. Throw
  /// std::out_of_range naming those held. A batch with parts has no tensors of its own.
  const Batch& part(std::size_t position) const;
  const Batch& part(std::string_view name) const;
  const std::vector<Batch>& parts() const { return parts_; }
  std::vector<Batch>& parts() { return parts_; }
  /// An empty name means none.
  void append_part(std::string name, Batch part);

  /// Number of samples, which is what the batch counts in means and windows of accumulation: what set_size said; else
  /// the first size of its tensors (those with a dimension), if it is above 0 and the same for all; else the number of
  /// samples that the loader made the batch of. A batch that no loader made has the first size of its first tensor,
  /// 1 if there is none; a batch with parts has the size of its first part. Lightning takes the first tensor's in any
  /// case.
  int64_t size() const;
  /// Sets the number of samples. For a collate function or Dataset::get_batch whose tensors do not show it, because
  /// time comes first, or because the samples are the nodes of graphs. Throws std::invalid_argument for a negative one.
  /// 0: a batch that weighs nothing, for which training_step has to return nothing.
  void set_size(int64_t samples);
  bool is_size_said() const { return said_size_ >= 0; }
  /// Called by the loader: how many samples it made the batch of.
  void set_made_of(int64_t samples) { made_of_ = samples; }
  /// 0: unknown.
  int64_t made_of() const { return made_of_; }
  /// First size of the first tensor that has a dimension; -1: none has.
  int64_t first_size() const;

  /// Memory that the elements of all tensors take, in bytes; `extra` is not counted.
  int64_t bytes() const;

  /// A batch of the same names with every tensor on `device`.
  Batch to(torch::Device device, bool non_blocking = false) const;
  /// A batch of the same names with every tensor in pinned (page-locked) host memory.
  Batch pin_memory() const;

  /// Whatever else the user carries (strings, graphs, ...). The default collate function makes it a
  /// std::vector<std::any> with one entry per sample.
  std::any extra;

 private:
  const torch::Tensor& at(int position) const;
  [[noreturn]] void throw_too_few(std::size_t wanted) const;

  std::vector<torch::Tensor> tensors_;
  std::vector<std::string> names_;
  std::vector<Batch> parts_;
  std::vector<std::string> part_names_;
  int64_t said_size_ = -1;
  int64_t made_of_ = 0;
};

}  // namespace troupe
