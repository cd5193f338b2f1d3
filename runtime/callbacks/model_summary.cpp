#include "troupe/runtime/callbacks/model_summary.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/runtime/summary/example_input.hpp"
#include "troupe/runtime/summary/model_summary.hpp"

namespace troupe {

namespace {

std::string shape_text(const std::optional<Shape>& shape) {
  return shape ? "[" + joined(*shape) + "]" : "";
}

ModelRecord record_of(const ModuleSummary& summary) {
  ModelRecord record;
  for (const auto& row : summary.rows) {
    record.layers.push_back({row.name, row.type, shape_text(row.in), shape_text(row.out), row.parameters});
  }
  record.parameters = summary.total_parameters;
  record.trainable_parameters = summary.trainable_parameters;
  return record;
}

}  // namespace

ModelSummary::ModelSummary(int max_depth) : max_depth_(max_depth) {
  if (max_depth >= -1) return;
  throw UsageError("ModelSummary: max_depth = " + std::to_string(max_depth) + "; use at least 0, or -1 for all levels");
}

void ModelSummary::on_pretrain_routine_start(RunContext& run, Module& module) {
  if (max_depth_ == 0) return;
  const auto example = example_input(module);
  std::function<void()> run_forward;
  if (example.defined()) {
    run_forward = [&] {
      try {
        module.forward(example);
      } catch (const c10::Error& error) {
        throw UsageError(std::string("the model summary calls forward(example_input_array): ") +
                         error.what_without_backtrace());
      }
    };
  }
  const auto summary = summarize(module, run_forward, max_depth_);
  run.note("\n" + to_text(summary));
  run.emit(record_of(summary));
}

}  // namespace troupe
