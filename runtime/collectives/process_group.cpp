#include "troupe/runtime/collectives/process_group.hpp"

namespace troupe {

c10::intrusive_ptr<c10d::ProcessGroup> as_process_group(const c10::intrusive_ptr<c10d::Backend>& backend,
                                                        c10::DeviceType device) {
  using Group = c10d::ProcessGroup;
  // c10d knows NCCL by its type; a name that it does not know is one of somebody else's, as ours are.
  const auto type = backend->getBackendName() == "nccl" ? Group::BackendType::NCCL : Group::BackendType::CUSTOM;
  auto group = c10::make_intrusive<Group>(backend->getRank(), backend->getSize());
  group->setBackend(device, type, backend);
  group->setDefaultBackend(type);
  return group;
}

}  // namespace troupe
