// What a replica does where a batch is computed in parts, on several devices (strategies dp and ddp2).
#include "troupe/runtime/data/random.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

namespace troupe {

// After the module has its weights: the copies must be like it.
void Replica::make_parts() {
  if (setup_.part_devices.empty()) return;
  if (setup_.stage == Stage::fit && !module_->automatic_optimization) {
    throw UsageError("strategy = " + name_of(setup_.options.strategy) +
                     " computes a batch on several devices at once, which manual optimization cannot: use ddp, or"
                     " automatic optimization");
  }
  if (module_->truncated_bptt_steps > 0) {
    throw UsageError("strategy = " + name_of(setup_.options.strategy) +
                     " cuts a batch along its samples, so that hiddens of one part would not fit the next one:"
                     " truncated_bptt_steps needs strategy = ddp");
  }
  current_name_ = "making copies of the module";
  BatchParts::Setup parts;
  parts.devices = setup_.part_devices;
  parts.make_module = setup_.make_part;
  parts.seed = *setup_.options.seed;
  parts.num_threads = setup_.options.num_threads;
  parts.prepare = [this](Module& module, torch::Device device) {
    if (is_used(Hook::setup)) module.setup(setup_.stage);
    module.to(device);
    for (const auto& [name, metric] : module.metrics()) metric->to(device);
    if (converts_batches_) set_floating_type(module, parameter_type(precision_));
    module.on_post_move_to_device();
  };
  parts_ = std::make_unique<BatchParts>(*this, *module_, std::move(parts));
  current_name_ = "";
}

// What the step of each part returned, on this replica's device; what the parts logged is logged for the whole batch.
Replica::PartOutputs Replica::run_parts(const Batch& batch, const BatchParts::Step& step) {
  PartOutputs result;
  const auto parts = split_batch(batch, parts_->count());
  for (const auto& part : parts) result.sizes.push_back(part.size());
  PartReport own;
  part_report_ = &own;
  const auto in_part = [&](Module& module, const Batch& part) {
    const Autocast autocast(precision_, module.device());
    return step(module, part);
  };
  try {
    result.outputs = parts_->run(parts, in_part,
                                 mix(static_cast<uint64_t>(progress_.total_batches),
                                     static_cast<uint64_t>(evaluating_ ? current_batch_ + 1 : 0)));
  } catch (...) {
    part_report_ = nullptr;
    throw;
  }
  part_report_ = nullptr;
  std::vector<PartReport> reports{std::move(own)};
  for (auto& report : parts_->take_reports()) reports.push_back(std::move(report));
  PartReport::tell(*this, *module_, std::span(reports).first(parts.size()), result.sizes);
  return result;
}

StepOutput Replica::training_step_in_parts(const TrainStep& step) {
  const auto index = static_cast<int64_t>(step.optimizer);
  auto [outputs, sizes] = run_parts(*step.batch, [&](Module& module, const Batch& part) {
    return module.training_step(part, step.batch_idx, index);
  });
  if (!is_used(Hook::training_step_end)) return joined_outputs(outputs, sizes);
  current_name_ = "training_step_end";
  auto output = module_->training_step_end(outputs);
  current_name_ = "";
  return output;
}

// Metrics are whole before anybody looks at them.
void Replica::collect_part_metrics() {
  if (parts_) parts_->collect_metrics();
}

}  // namespace troupe
