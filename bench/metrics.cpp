// Updates per second of metrics, for bench/run metrics.
//
//     metrics plain|captured [STEPS]
//
// Batches of 64: scores of ten classes, which are logits, or of yes and no, and their targets; 64 batches are made
// beforehand and used in turn, and the metric is reset when all have been used, as peers/torchmetrics_updates.py does
// it. A captured update is a function of Fabric::capture that does nothing else, with the copy of its batch. The middle
// of five stretches of STEPS updates, after one to warm up.
#include "bench/cells.hpp"

#include <troupe/troupe.hpp>

#include <torch/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using troupe::TargetMetric;
using troupe::bench::print_cell;

constexpr int64_t batch_size = 64, batches = 64, classes = 10, stretches = 5;

struct Case {
  std::string name;
  bool is_binary = false;
  std::shared_ptr<TargetMetric> metric;
};

std::vector<Case> cases() {
  namespace metrics = troupe::metrics;
  return {{"accuracy", false,
           std::make_shared<metrics::Accuracy>(metrics::AccuracyOptions{
               .task = metrics::Task::multiclass, .num_classes = classes, .average = metrics::Average::macro})},
          {"F1", false,
           std::make_shared<metrics::F1Score>(metrics::PrecisionRecallOptions{
               .task = metrics::Task::multiclass, .num_classes = classes, .average = metrics::Average::macro})},
          {"AUROC", false,
           std::make_shared<metrics::AUROC>(
               metrics::AUROCOptions{.task = metrics::Task::multiclass, .num_classes = classes})},
          {"AUROC of yes and no", true,
           std::make_shared<metrics::AUROC>(metrics::AUROCOptions{.task = metrics::Task::binary})},
          {"IoU", false,
           std::make_shared<metrics::JaccardIndex>(
               metrics::JaccardIndexOptions{.task = metrics::Task::multiclass, .num_classes = classes})}};
}

std::vector<troupe::Batch> made(bool is_binary) {
  torch::manual_seed(1);
  std::vector<troupe::Batch> all;
  for (int64_t i = 0; i < batches; ++i) {
    if (is_binary) {
      all.push_back({torch::randn({batch_size}), torch::randint(2, {batch_size})});
    } else {
      all.push_back({torch::randn({batch_size, classes}), torch::randint(classes, {batch_size})});
    }
  }
  return all;
}

double updates_per_second(int64_t steps, TargetMetric& metric, const std::vector<troupe::Batch>& data,
                          const std::function<void(const troupe::Batch&)>& update) {
  std::vector<double> rates;
  for (int64_t stretch = -1; stretch < stretches; ++stretch) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < steps; ++i) {
      if (i % batches == 0) metric.reset();
      update(data[static_cast<std::size_t>(i % batches)]);
    }
    if (stretch >= 0) rates.push_back(static_cast<double>(steps) / troupe::bench::microseconds_since(start) * 1e6);
  }
  return troupe::bench::median(rates);
}

void measure(const std::vector<std::string>& words) {
  const auto& who = words[0];
  if (who != "plain" && who != "captured") throw troupe::UsageError("'" + who + "' is none of plain and captured");
  const int64_t steps = words.size() > 1 ? troupe::bench::count_of(words[1]) : 100'000;
  troupe::FabricOptions options{.accelerator = troupe::Accelerator::cpu, .num_threads = 1, .quiet = true};
  options.capture_step = who == "plain" ? troupe::CaptureStep::off : troupe::CaptureStep::require;
  for (const auto& each : cases()) {
    const auto data = made(each.is_binary);
    TargetMetric& metric = *each.metric;
    troupe::Fabric(options).launch([&](troupe::Fabric& fabric) {
      std::function<void(const troupe::Batch&)> update = [&](const troupe::Batch& batch) {
        metric.update(batch[0], batch[1]);
      };
      if (who == "captured") {
        update = [step = fabric.capture([&](const troupe::Batch& batch) {
          metric.update(batch[0], batch[1]);
          return troupe::StepOutput();
        })](const troupe::Batch& batch) { step(batch); };
      }
      const double rate = updates_per_second(steps, metric, data, update);
      print_cell({{"case", each.name}, {"who", who}, {"updates", rate}});
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  torch::set_num_threads(1);
  return troupe::bench::run_cells(argc, argv, "metrics plain|captured [STEPS]", 1, 2, measure);
}
