#include "troupe/runtime/device/copy_ahead.hpp"

#include "troupe/runtime/profile/phase_clock.hpp"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace troupe {

// By what LibTorch has for every kind of device, so that a program need not be linked to the CUDA libraries.
struct CopyAhead::Streams {
  explicit Streams(torch::Device device_in)
      : device(device_in),
        guard(device),
        streams_of(device.type()),
        compute(streams_of.getStreamFromGlobalPool(device)),
        copy(streams_of.getStreamFromGlobalPool(device)),
        stream_guard(compute) {}

  torch::Device device;
  c10::DeviceGuard guard;
  c10::impl::VirtualGuardImpl streams_of;
  c10::Stream compute, copy;
  c10::StreamGuard stream_guard;
};

CopyAhead::CopyAhead(torch::Device device) {
  if (device.is_cuda()) streams_ = std::make_unique<Streams>(device);
}

CopiedBatch CopyAhead::begin(Batch batch) {
  if (!streams_) return {std::move(batch), nullptr};
  const PhaseScope phase(Phase::transfer);
  const c10::StreamGuard on_copy_stream(streams_->copy);
  auto event = std::make_shared<c10::Event>(streams_->device.type());
  CopiedBatch out{batch.to(streams_->device, /*non_blocking=*/true), nullptr};
  event->record(streams_->copy);
  out.mark = std::move(event);
  return out;
}

Batch CopyAhead::finish(CopiedBatch copied) {
  if (!copied.mark) return std::move(copied.batch);
  const PhaseScope phase(Phase::transfer);
  std::static_pointer_cast<c10::Event>(copied.mark)->block(streams_->compute);
  // The memory belongs to the copy stream's pool: it may be used again only when the computing stream is past it.
  for (const auto& tensor : copied.batch.tensors()) {
    if (!tensor.is_cuda()) continue;
    streams_->streams_of.recordDataPtrOnStream(tensor.storage().data_ptr(), streams_->compute);
  }
  return std::move(copied.batch);
}

CopyAhead::~CopyAhead() = default;

}  // namespace troupe
