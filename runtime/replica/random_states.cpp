#include "troupe/runtime/replica/random_states.hpp"

#include "troupe/runtime/data/random.hpp"

namespace troupe {

namespace {

constexpr const char* random_state = "random.cpu";
constexpr const char* device_random_state = "random.cuda";

}  // namespace

NamedTensors random_states(torch::Device device) {
  NamedTensors states = {{random_state, generator_state()}};
  if (!device.is_cpu()) states.emplace_back(device_random_state, generator_state(device));
  return states;
}

void restore_random_states(const Checkpoint& state, torch::Device device) {
  if (const auto* saved = state.find(random_state)) set_generator_state(*saved);
  const auto* saved_of_device = device.is_cpu() ? nullptr : state.find(device_random_state);
  if (saved_of_device) set_generator_state(*saved_of_device, device);
}

}  // namespace troupe
