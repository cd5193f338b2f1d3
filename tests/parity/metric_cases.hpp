// Metrics against the values that a script of this folder gets from torchmetrics, over batches of uneven sizes, to
// 1e-6: the value of each batch and that of all; and the same when the batches are spread over replicas whose states
// are merged. metric_cases.py is the other half.
#pragma once

#include "tests/parity/parity.hpp"
#include "troupe/modules/metrics/metric.hpp"
#include "troupe/modules/options/choices.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

namespace troupe {

/// The value that torchmetrics calls `name`.
template <HasChoices Enum>
Enum named(const std::string& name) {
  return static_cast<Enum>(value_in(choices_of<Enum>(), name, "option"));
}

class MetricCases {
 public:
  static constexpr int64_t batches = 5;

  /// Feeds a metric one batch; returns its value where `alone` is set.
  using Feed = std::function<torch::Tensor(Metric&, int64_t batch, bool alone)>;
  using Make = std::function<std::unique_ptr<Metric>()>;

  template <class M, class Options>
  static Make make(Options options) {
    return [options] { return std::make_unique<M>(options); };
  }

  explicit MetricCases(const std::string& script) {
    torch::set_num_threads(1);  // the tensors are too small to share
    reference_ = pytorch_reference(script);
  }

  const torch::Tensor& input(const std::string& data, const char* which, int64_t batch) const {
    return reference_.at(data + "." + which + "." + std::to_string(batch));
  }

  /// Batches of `data`: preds and target.
  Feed pairs(const std::string& data) const {
    return [this, data](Metric& metric, int64_t batch, bool alone) {
      auto& paired = dynamic_cast<TargetMetric&>(metric);
      const auto &preds = input(data, "preds", batch), &target = input(data, "target", batch);
      if (alone) return paired(preds, target);
      paired.update(preds, target);
      return torch::Tensor();
    };
  }

  template <class M, class Options>
  void compare_pairs(const std::string& name, Options options, const std::string& data) {
    compare(name, make<M>(std::move(options)), pairs(data));
  }

  void compare(const std::string& name, const Make& make_metric, const Feed& feed) {
    SCOPED_TRACE(name);
    compared_.insert(name);
    const auto whole = make_metric(), called = make_metric();
    std::vector<std::unique_ptr<Metric>> replicas;
    for (int i = 0; i < 4; ++i) replicas.push_back(make_metric());  // the last one gets nothing
    const auto rows = reference_.find(name + "/batches");
    for (int64_t batch = 0; batch < batches; ++batch) {
      feed(*whole, batch, false);
      feed(*replicas[static_cast<std::size_t>(batch / 2)], batch, false);
      const auto value = feed(*called, batch, true);
      if (rows != reference_.end()) expect_same(value, "batch " + std::to_string(batch), rows->second[batch]);
    }
    const auto& epoch = reference_.at(name + "/epoch");
    expect_same(whole->compute(), "update", epoch);
    expect_same(called->compute(), "call", epoch);

    std::vector<MetricStates> states;
    for (const auto& replica : replicas) states.push_back(replica->states());
    const auto all = make_metric();
    all->load_states(merged(states));
    EXPECT_EQ(all->update_count(), batches);
    EXPECT_TRUE(torch::allclose(all->compute().to(torch::kFloat64), whole->compute().to(torch::kFloat64), 1e-9, 1e-12,
                                /*equal_nan=*/true));
  }

  /// The value of all batches, for a test that compares it by itself.
  const torch::Tensor& epoch_of(const std::string& name) {
    compared_.insert(name);
    return reference_.at(name + "/epoch");
  }

  /// For the last test: what the script gave was compared.
  void expect_none_left_out() const {
    for (const auto& [key, value] : reference_) {
      if (!key.ends_with("/epoch")) continue;
      EXPECT_TRUE(compared_.contains(key.substr(0, key.size() - 6))) << key;
    }
  }

 private:
  static void expect_same(const torch::Tensor& ours, const std::string& key, const torch::Tensor& theirs) {
    ASSERT_EQ(ours.sizes(), theirs.sizes()) << key;
    const auto a = ours.to(torch::kFloat64), b = theirs.to(torch::kFloat64);
    EXPECT_TRUE(torch::allclose(a, b, 1e-6, 1e-6, /*equal_nan=*/true)) << key << "\nours " << a << "\ntheirs " << b;
  }

  Tensors reference_;
  std::set<std::string> compared_;
};

}  // namespace troupe
