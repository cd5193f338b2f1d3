#include "troupe/modules/metrics/retrieval.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/modules/metrics/checks.hpp"
#include "troupe/modules/metrics/classification.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace troupe::metrics {

namespace {

constexpr double all_valid = std::numeric_limits<double>::infinity();  // no invalid target

torch::Tensor as_numbers(const torch::Tensor& flags) {
  return flags.to(torch::kFloat64);
}

// 1 / log2(place + 2), and 0 from k on.
torch::Tensor discounts(const torch::Tensor& place, const torch::Tensor& is_first_k) {
  return torch::where(is_first_k, 1 / (as_numbers(place) + 2).log2(), 0.0);
}

}  // namespace

RetrievalMetric::RetrievalMetric(const char* name, RetrievalOptions options, bool takes_gains, bool needs_irrelevant)
    : name_(name), options_(options), takes_gains_(takes_gains), needs_irrelevant_(needs_irrelevant) {
  if (options_.top_k) check_at_least(name, "top_k", *options_.top_k, 1);
  indexes_ = add_list("indexes", torch::kLong);
  preds_ = add_list("preds", torch::kFloat32);
  target_ = add_list("target", torch::kFloat64);
  worst_target_ = add_state("worst_target", torch::full({}, all_valid, torch::kFloat64), Combine::min);
}

void RetrievalMetric::refuse_target(double target) const {
  const auto ignored = options_.ignore_index ? c10::str(", or ignore_index = ", *options_.ignore_index) : "";
  const bool is_whole = target == std::floor(target);
  throw UsageError(std::string(name_) + ": target holds " +
                   (is_whole ? std::to_string(static_cast<int64_t>(target)) : double_to_text(target)) +
                   (takes_gains_ ? "; gains are 0 and above" : "; targets are 0 and 1") + ignored);
}

void RetrievalMetric::check(const torch::Tensor& preds, const torch::Tensor& target,
                            const torch::Tensor& indexes) const {
  const std::string name = name_;
  for (const auto& [what, tensor] : {std::pair{"preds", &preds}, {"target", &target}, {"indexes", &indexes}}) {
    if (!tensor->defined()) throw UsageError(name + ": " + what + " is undefined");
    if (tensor->device() != preds.device()) {
      throw UsageError(name + ": preds is on " + preds.device().str() + " and " + what + " on " +
                       tensor->device().str());
    }
  }
  if (preds.sizes() != target.sizes() || preds.sizes() != indexes.sizes()) {
    throw UsageError(c10::str(name, ": preds is of shape ", preds.sizes(), ", target of ", target.sizes(),
                              " and indexes of ", indexes.sizes(), "; give all one shape"));
  }
  if (!preds.is_floating_point()) {
    throw UsageError(c10::str(name, ": preds holds ", preds.scalar_type(), "; scores of a floating type are needed"));
  }
  if (indexes.scalar_type() != torch::kLong) {
    throw UsageError(c10::str(name, ": indexes holds ", indexes.scalar_type(), "; Long is needed"));
  }
  if (!takes_gains_ && target.is_floating_point()) {
    throw UsageError(c10::str(name, ": target holds ", target.scalar_type(), "; an integer type or bool is needed"));
  }
}

void RetrievalMetric::update(const torch::Tensor& preds, const torch::Tensor& target, const torch::Tensor& indexes) {
  check(preds, target, indexes);
  gather({preds, target, indexes}, [this](const Inputs& inputs) { add(inputs); });
}

torch::Tensor RetrievalMetric::operator()(const torch::Tensor& preds, const torch::Tensor& target,
                                          const torch::Tensor& indexes) {
  check(preds, target, indexes);
  return gather_batch({preds, target, indexes}, [this](const Inputs& inputs) { add(inputs); });
}

void RetrievalMetric::add(const Inputs& inputs) {
  const auto flat = [](const torch::Tensor& tensor, torch::ScalarType type) {
    return tensor.to(type, /*non_blocking=*/false, /*copy=*/true).reshape({-1});
  };
  const auto scores = at_least_float(inputs[0]);
  const auto target = flat(inputs[1], torch::kFloat64);
  if (target.numel() == 0) return;
  auto is_wrong = takes_gains_ ? ~(target >= 0) : (target != 0) & (target != 1);
  if (options_.ignore_index) is_wrong = is_wrong & (target != *options_.ignore_index);
  if (target.is_cpu()) {
    if (is_wrong.any().item<bool>()) refuse_target(target.masked_select(is_wrong)[0].item<double>());
  } else {
    const auto worst = torch::where(is_wrong, target.nan_to_num(-1), all_valid).min();
    at(worst_target_) = torch::minimum(at(worst_target_), worst);
  }
  append(preds_, flat(scores, scores.scalar_type()));
  append(target_, target);
  append(indexes_, flat(inputs[2], torch::kLong));
}

// --- Rankings ---

torch::Tensor RetrievalMetric::Ranking::sum(const torch::Tensor& values) const {
  return torch::zeros(count.sizes(), target.options()).index_add_(0, query, as_numbers(values));
}

torch::Tensor RetrievalMetric::Ranking::running_sum(const torch::Tensor& values) const {
  const auto total = as_numbers(values).cumsum(0);
  const auto sums = sum(values);
  const auto before = sums.cumsum(0) - sums;  // of earlier queries
  return total - before.index_select(0, query);
}

// What was gathered, without the documents that are to be ignored.
std::array<torch::Tensor, 3> RetrievalMetric::heeded() const {
  std::array<torch::Tensor, 3> all = {at(preds_), at(target_), at(indexes_)};
  if (options_.ignore_index) {
    const auto heeded = (all[1] != *options_.ignore_index).nonzero().squeeze(1);
    for (auto& each : all) each = each.index_select(0, heeded);
  }
  return all;
}

RetrievalMetric::Ranking RetrievalMetric::ranking() const {
  auto [scores, target, indexes] = heeded();
  const auto by_score = scores.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const auto by_query = indexes.index_select(0, by_score).argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto order = by_score.index_select(0, by_query);
  for (auto* each : {&scores, &target, &indexes}) *each = each->index_select(0, order);
  const auto [ids, query, count] = torch::unique_consecutive(indexes, /*return_inverse=*/true, /*return_counts=*/true);
  Ranking all{scores, target, query, {}, count, {}};
  all.place = torch::arange(query.size(0), query.options()) - (count.cumsum(0) - count).index_select(0, query);
  all.relevant = all.sum(target);
  return all;
}

torch::Tensor RetrievalMetric::is_first_k(const Ranking& ranking) const {
  return ranking.place < options_.top_k.value_or(std::numeric_limits<int64_t>::max());
}

torch::Tensor RetrievalMetric::is_empty(const Ranking& ranking) const {
  return (needs_irrelevant_ ? ranking.sum(1 - ranking.target) : ranking.relevant) == 0;
}

void RetrievalMetric::verify() const {
  if (!device().is_cpu()) {
    if (const double worst = at(worst_target_).item<double>(); worst != all_valid) refuse_target(worst);
  }
  if (options_.empty_target_action != EmptyTargetAction::error) return;
  // Whether a query has none depends on no score, and result() ranks them.
  const auto [scores, target, indexes] = heeded();
  const auto [ids, query, count] = at::_unique2(indexes, /*sorted=*/true, /*return_inverse=*/true);
  const auto needed = needs_irrelevant_ ? 1 - target : target;
  if ((torch::zeros(ids.sizes(), target.options()).index_add_(0, query, needed) == 0).any().item<bool>()) {
    throw UsageError(std::string(name_) + ": a query has no document that is " +
                     (needs_irrelevant_ ? "not relevant" : "relevant") + ", and empty_target_action is error");
  }
}

torch::Tensor RetrievalMetric::result() const {
  const auto ranked = ranking();
  const auto empty = is_empty(ranked);
  auto each = torch::where(empty, options_.empty_target_action == EmptyTargetAction::pos ? 1.0 : 0.0, values(ranked));
  if (options_.empty_target_action == EmptyTargetAction::skip) each = each.masked_select(~empty);
  auto value = torch::zeros({}, each.options());
  if (each.numel() > 0) {
    value = options_.aggregation == Aggregation::mean     ? each.mean()
            : options_.aggregation == Aggregation::median ? each.median()
            : options_.aggregation == Aggregation::min    ? each.min()
                                                          : each.max();
  }
  return torch::where(ranked.scores.isnan().any(), std::numeric_limits<double>::quiet_NaN(), value);
}

// --- The metrics ---

torch::Tensor RetrievalMRR::values(const Ranking& ranking) const {
  const auto is_hit = (ranking.target > 0) & is_first_k(ranking);
  const auto is_first_hit = is_hit & (ranking.running_sum(is_hit) == 1);
  return ranking.sum(torch::where(is_first_hit, 1 / (as_numbers(ranking.place) + 1), 0.0));
}

torch::Tensor RetrievalMAP::values(const Ranking& ranking) const {
  const auto is_hit = (ranking.target > 0) & is_first_k(ranking);
  const auto precision = ranking.running_sum(is_hit) / (as_numbers(ranking.place) + 1);
  return safe_divide(ranking.sum(torch::where(is_hit, precision, 0.0)), ranking.sum(is_hit));
}

torch::Tensor RetrievalNormalizedDCG::values(const Ranking& ranking) const {
  const auto n = ranking.query.size(0);
  const auto discount = discounts(ranking.place, is_first_k(ranking));
  // The best order: queries stay where they are, since both sorts are stable.
  const auto by_gain = ranking.target.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const auto best = by_gain.index_select(
      0, ranking.query.index_select(0, by_gain).argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false));
  const auto ideal = ranking.sum(discount * ranking.target.index_select(0, best));
  // Equal scores of a query are neighbours.
  const auto is_new = torch::ones({n}, ranking.query.options());
  if (n > 1) {
    const auto same = (ranking.scores.diff() == 0) & (ranking.query.diff() == 0);
    is_new.slice(0, 1).copy_(~same);
  }
  const auto group = is_new.cumsum(0) - 1;
  const auto of_group = [&](const torch::Tensor& values) {
    return torch::zeros({n}, ranking.target.options()).index_add_(0, group, values).index_select(0, group);
  };
  const auto mean_gain = of_group(ranking.target) / of_group(torch::ones_like(ranking.target));
  return safe_divide(ranking.sum(mean_gain * discount), ideal);
}

torch::Tensor RetrievalRecall::values(const Ranking& ranking) const {
  return safe_divide(ranking.sum(ranking.target * is_first_k(ranking)), ranking.relevant);
}

RetrievalPrecision::RetrievalPrecision(RetrievalPrecisionOptions options)
    : RetrievalMetric("RetrievalPrecision",
                      {options.empty_target_action, options.ignore_index, options.top_k, options.aggregation}),
      adaptive_k_(options.adaptive_k) {}

torch::Tensor RetrievalPrecision::values(const Ranking& ranking) const {
  auto k = ranking.count;
  if (top_k()) k = adaptive_k_ ? ranking.count.clamp_max(*top_k()) : torch::full_like(ranking.count, *top_k());
  return ranking.sum(ranking.target * is_first_k(ranking)) / k;
}

torch::Tensor RetrievalHitRate::values(const Ranking& ranking) const {
  return as_numbers(ranking.sum(ranking.target * is_first_k(ranking)) > 0);
}

RetrievalFallOut::RetrievalFallOut(RetrievalFallOutOptions options)
    : RetrievalMetric("RetrievalFallOut",
                      {options.empty_target_action, options.ignore_index, options.top_k, options.aggregation},
                      /*takes_gains=*/false, /*needs_irrelevant=*/true) {}

torch::Tensor RetrievalFallOut::values(const Ranking& ranking) const {
  const auto irrelevant = 1 - ranking.target;
  return safe_divide(ranking.sum(irrelevant * is_first_k(ranking)), ranking.sum(irrelevant));
}

RetrievalRPrecision::RetrievalRPrecision(RetrievalRPrecisionOptions options)
    : RetrievalMetric("RetrievalRPrecision",
                      {options.empty_target_action, options.ignore_index, std::nullopt, options.aggregation}) {}

torch::Tensor RetrievalRPrecision::values(const Ranking& ranking) const {
  const auto is_first = ranking.place < ranking.relevant.index_select(0, ranking.query);
  return safe_divide(ranking.sum(ranking.target * is_first), ranking.relevant);
}

}  // namespace troupe::metrics
