// Gradients that are sent as products of two thin matrices, for links that are slow.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <torch/types.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// The names in brackets are those of PyTorch's PowerSGDState.
struct PowerSgdOptions {
  int64_t rank = 1;           ///< columns of the thin matrices (matrix_approximation_rank)
  int64_t start_step = 1000;  ///< from which step on gradients are compressed (start_powerSGD_iter)
  bool error_feedback = true;
  bool warm_start = true;
  /// A matrix is compressed if it is more than so many times as large as the two thin ones (min_compression_rate).
  double least_rate = 2;
  uint64_t seed = 0;  ///< of the first thin matrices; the same on all workers
};

/// PowerSGD (Vogels et al. 2019, https://arxiv.org/abs/1905.13727), as PyTorch's powerSGD_hook computes it
/// (https://docs.pytorch.org/docs/stable/ddp_comm_hooks.html#powersgd-communication-hook). The gradient of a parameter
/// of shape [n, ...] is a matrix M of n rows. With a matrix Q of m x r that all workers have alike, and orthogonal
/// columns in it:
///
///     P = the sum of M Q over all workers, its columns made orthogonal
///     Q = the mean of M^T P over all workers
///     the mean of M is about P Q^T
///
/// What a worker's M has besides that is added to its next gradient (error feedback), so that nothing is lost for good,
/// and the next step begins with this Q (warm start), so that the approximation gets better from step to step. Vectors,
/// and matrices that are too small to gain anything, are sent as they are.
///
/// Unlike PyTorch's: computing is in float32 for gradients of 16 bits; a column that is nothing, or lies in the others,
/// becomes another unit vector and not NaN; gradients that are not finite leave errors and matrices as they were, so
/// that a step that is left out has no consequences; and what is kept belongs to parameters, not to buckets, so that
/// compression may begin with the first step, and a resumed run goes on with the same bits.
///
/// Used by one thread, all calls collective. The result is the same, bit for bit, on all workers whose processors are
/// alike.
class PowerSgd {
 public:
  struct Gradient {
    std::string name;      ///< of the parameter: what is kept goes by it
    torch::Tensor tensor;  ///< this worker's, and in the end the mean of all
  };

  explicit PowerSgd(const PowerSgdOptions& options) : options_(options) {}
  PowerSgd(const PowerSgd&) = delete;
  PowerSgd& operator=(const PowerSgd&) = delete;

  /// Whether the gradients of this step are compressed; else whoever asks averages them, and calls count_step().
  bool compresses() const { return steps_ >= options_.start_step; }
  void count_step() { ++steps_; }
  /// Begins a bucket: gradients of one type on one device.
  void begin(std::vector<Gradient> gradients, const c10::intrusive_ptr<c10d::ProcessGroup>& group);
  /// Ends all buckets of a step, in the order in which they were begun: the means are in the gradients.
  void finish();

  // --- State. Tensors are the ones in use. ---

  /// What all workers have alike: `powersgd.<index>.q.<name>`, and powersgd[index] in the metadata, a list.
  void append_shared(Checkpoint& checkpoint, std::size_t index) const;
  /// What a worker has for itself: `powersgd.<index>.error.<name>`.
  void append_own(Checkpoint& state, std::size_t index) const;
  /// The same again, before the first step. Throws CheckpointError for what is damaged.
  void load_shared(const Checkpoint& checkpoint, std::size_t index);
  void load_own(const Checkpoint& state, std::size_t index);
  /// Of a run with other workers, whose states are `states`: each takes the mean of their errors, so that what all
  /// workers together have left out stays what it was.
  void load_mean(const std::vector<Checkpoint>& states, std::size_t index);

 private:
  struct Matrix {
    std::string name;
    torch::Tensor gradient;
    torch::Tensor whole;  // the gradient with the error before
    torch::Tensor q, p;
  };
  struct Bucket {
    c10::intrusive_ptr<c10d::ProcessGroup> group;
    std::vector<Matrix> matrices;
    std::vector<torch::Tensor> others;  // that are sent as they are
    torch::Tensor first, second;        // what travels: the others and the Ps, then the Qs
    c10::intrusive_ptr<c10d::Work> work;
  };

  std::optional<Matrix> matrix_of(const Gradient& gradient) const;
  torch::Tensor first_q(const std::string& name, int64_t rows, int64_t columns) const;
  void take_first(Bucket& bucket);
  void take_second(Bucket& bucket);

  PowerSgdOptions options_;
  int64_t steps_ = 0;
  std::map<std::string, torch::Tensor> errors_, qs_;
  std::vector<Bucket> buckets_;
};

/// Makes the columns of a matrix of float32 or float64 orthogonal unit vectors, in place: the first keeps its
/// direction, of each other one what lies in those before is taken away. A column of which nothing is left becomes a
/// unit vector that fits; one with numbers that are not finite becomes NaN. On the CPU the bits depend on the matrix
/// alone, not on the number of threads.
void orthogonalize(torch::Tensor& matrix);

}  // namespace troupe
