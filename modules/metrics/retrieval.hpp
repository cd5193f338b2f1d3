// How well scores rank the documents of queries: reciprocal rank, average precision, NDCG, and shares of the first k.
#pragma once

#include "troupe/modules/metrics/metric.hpp"
#include "troupe/modules/options/choices.hpp"

#include <array>
#include <optional>

namespace troupe::metrics {

/// What a query gives that has no value.
enum class EmptyTargetAction {
  neg,    ///< 0
  pos,    ///< 1
  skip,   ///< nothing: it does not count
  error,  ///< UsageError from compute()
};
TROUPE_CHOICES(EmptyTargetAction, {neg, "neg"}, {pos, "pos"}, {skip, "skip"}, {error, "error"})

/// What is taken of the values of all queries.
enum class Aggregation { mean, median, min, max };
TROUPE_CHOICES(Aggregation, {mean, "mean"}, {median, "median"}, {min, "min"}, {max, "max"})

/// https://lightning.ai/docs/torchmetrics/stable/retrieval/mrr.html and its siblings
struct RetrievalOptions {
  EmptyTargetAction empty_target_action = EmptyTargetAction::neg;  ///< of a query without a relevant document
  std::optional<int64_t> ignore_index = std::nullopt;              ///< documents with this target do not count
  std::optional<int64_t> top_k = std::nullopt;                     ///< only the k highest scores of a query; none: all
  Aggregation aggregation = Aggregation::mean;
};

/// A metric of queries. An update has any number of documents of any queries, in three tensors of one shape: preds,
/// their scores, of a floating type; target, 1 if a document is relevant and 0 if not, of an integer type or bool; and
/// indexes, long, which query each belongs to. Documents of a query may come in different batches and on different
/// ranks: all are kept (states indexes, preds and target, joined) and ranked by compute(). Among equal scores those
/// that came first rank first. A score that is NaN makes the value NaN. Without any query that counts the value is 0,
/// as in torchmetrics. Targets that are not 0 or 1 throw UsageError, at once on the CPU and from compute() on another
/// device.
class RetrievalMetric : public Metric {
 public:
  /// Adds documents. Throws UsageError for other shapes and types.
  void update(const torch::Tensor& preds, const torch::Tensor& target, const torch::Tensor& indexes);
  /// Adds documents and returns the value of these alone.
  torch::Tensor operator()(const torch::Tensor& preds, const torch::Tensor& target, const torch::Tensor& indexes);

 protected:
  /// `takes_gains`: targets may be any number from 0 on. `needs_irrelevant`: a query is without a value for want of
  /// documents that are not relevant, not of those that are.
  RetrievalMetric(const char* name, RetrievalOptions options, bool takes_gains = false, bool needs_irrelevant = false);

  /// All documents that count, query by query, each query's from the highest score on.
  struct Ranking {
    torch::Tensor scores;    ///< [n]
    torch::Tensor target;    ///< [n], float64
    torch::Tensor query;     ///< [n], 0 to Q - 1
    torch::Tensor place;     ///< [n], 0 is the highest of a query
    torch::Tensor count;     ///< [Q], documents
    torch::Tensor relevant;  ///< [Q], the sum of targets

    /// The sum of `values` [n] over the documents of each query, [Q].
    torch::Tensor sum(const torch::Tensor& values) const;
    /// [n]: those values of each query's documents up to each, itself included.
    torch::Tensor running_sum(const torch::Tensor& values) const;
  };
  /// The value of each query, [Q], float64.
  virtual torch::Tensor values(const Ranking& ranking) const = 0;
  /// [n], bool: among the k highest of its query.
  torch::Tensor is_first_k(const Ranking& ranking) const;
  const std::optional<int64_t>& top_k() const { return options_.top_k; }

  torch::Tensor result() const override;
  void verify() const override;

 private:
  void check(const torch::Tensor& preds, const torch::Tensor& target, const torch::Tensor& indexes) const;
  void add(const Inputs& inputs);
  std::array<torch::Tensor, 3> heeded() const;
  Ranking ranking() const;
  torch::Tensor is_empty(const Ranking& ranking) const;
  [[noreturn]] void refuse_target(double target) const;

  const char* name_;
  RetrievalOptions options_;
  bool takes_gains_, needs_irrelevant_;
  State indexes_, preds_, target_, worst_target_;
};

/// 1 / the place of the first relevant document, counted from 1; 0 if it is beyond k.
class RetrievalMRR : public RetrievalMetric {
 public:
  /// Throws UsageError for a value that an option cannot have; so do the others.
  explicit RetrievalMRR(RetrievalOptions options = {}) : RetrievalMetric("RetrievalMRR", options) {}

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

/// The mean, over the relevant documents among the first k, of the precision up to each.
class RetrievalMAP : public RetrievalMetric {
 public:
  explicit RetrievalMAP(RetrievalOptions options = {}) : RetrievalMetric("RetrievalMAP", options) {}

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

/// The normalized discounted cumulative gain: the sum of target / log2(place + 1) over that of the best order. target
/// is a gain, any number from 0 on. Equal scores share their discounts.
class RetrievalNormalizedDCG : public RetrievalMetric {
 public:
  explicit RetrievalNormalizedDCG(RetrievalOptions options = {})
      : RetrievalMetric("RetrievalNormalizedDCG", options, /*takes_gains=*/true) {}

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

/// Relevant documents among the first k, of all that are relevant.
class RetrievalRecall : public RetrievalMetric {
 public:
  explicit RetrievalRecall(RetrievalOptions options = {}) : RetrievalMetric("RetrievalRecall", options) {}

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/retrieval/precision.html
struct RetrievalPrecisionOptions {
  EmptyTargetAction empty_target_action = EmptyTargetAction::neg;
  std::optional<int64_t> ignore_index = std::nullopt;
  std::optional<int64_t> top_k = std::nullopt;
  bool adaptive_k = false;  ///< k is at most the number of a query's documents
  Aggregation aggregation = Aggregation::mean;
};

/// Relevant documents among the first k, over k.
class RetrievalPrecision : public RetrievalMetric {
 public:
  explicit RetrievalPrecision(RetrievalPrecisionOptions options = {});

 protected:
  torch::Tensor values(const Ranking& ranking) const override;

 private:
  bool adaptive_k_;
};

/// 1 if a relevant document is among the first k, else 0.
class RetrievalHitRate : public RetrievalMetric {
 public:
  explicit RetrievalHitRate(RetrievalOptions options = {}) : RetrievalMetric("RetrievalHitRate", options) {}

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/retrieval/fall_out.html
struct RetrievalFallOutOptions {
  /// Of a query without a document that is not relevant.
  EmptyTargetAction empty_target_action = EmptyTargetAction::pos;
  std::optional<int64_t> ignore_index = std::nullopt;
  std::optional<int64_t> top_k = std::nullopt;
  Aggregation aggregation = Aggregation::mean;
};

/// Documents that are not relevant among the first k, of all that are not.
class RetrievalFallOut : public RetrievalMetric {
 public:
  explicit RetrievalFallOut(RetrievalFallOutOptions options = {});

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

/// https://lightning.ai/docs/torchmetrics/stable/retrieval/r_precision.html
struct RetrievalRPrecisionOptions {
  EmptyTargetAction empty_target_action = EmptyTargetAction::neg;
  std::optional<int64_t> ignore_index = std::nullopt;
  Aggregation aggregation = Aggregation::mean;
};

/// Relevant documents among the first R, over R, which is the number of a query's relevant documents.
class RetrievalRPrecision : public RetrievalMetric {
 public:
  explicit RetrievalRPrecision(RetrievalRPrecisionOptions options = {});

 protected:
  torch::Tensor values(const Ranking& ranking) const override;
};

}  // namespace troupe::metrics
