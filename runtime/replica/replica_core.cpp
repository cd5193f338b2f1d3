#include "troupe/runtime/replica/replica_core.hpp"

#include "troupe/runtime/replica/device_shards.hpp"

namespace troupe {

namespace {

ReplicaSetup with_pulse(ReplicaSetup setup) {
  if (!setup.pulse) setup.pulse = std::make_shared<Pulse>("worker");
  return setup;
}

}  // namespace

ReplicaCore::ReplicaCore(ReplicaSetup setup_in, ReplicaOutputs& outputs_in, RunContext& run_in)
    : setup(with_pulse(std::move(setup_in))), outputs(outputs_in), run(run_in), pulse(*setup.pulse) {
  pulse.stage = setup.stage;
  accumulate_grad_batches = options().accumulate_grad_batches;
}

ReplicaCore::~ReplicaCore() = default;

void ReplicaCore::collect_shard_metrics() {
  if (shards) shards->collect_metrics();
}

}  // namespace troupe
