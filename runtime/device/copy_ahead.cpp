#include "troupe/runtime/device/copy_ahead.hpp"

#include "troupe/runtime/profile/phase_clock.hpp"

#ifdef TROUPE_HAS_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace troupe {

#ifdef TROUPE_HAS_CUDA

struct CopyAhead::Streams {
  explicit Streams(torch::Device device_in)
      : device(device_in),
        guard(device),
        compute(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        copy(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
        stream_guard(compute) {}

  torch::Device device;
  c10::cuda::CUDAGuard guard;
  c10::cuda::CUDAStream compute, copy;
  c10::cuda::CUDAStreamGuard stream_guard;
};

CopyAhead::CopyAhead(torch::Device device) {
  if (device.is_cuda()) streams_ = std::make_unique<Streams>(device);
}

CopiedBatch CopyAhead::begin(Batch batch) {
  if (!streams_) return {std::move(batch), nullptr};
  const PhaseScope phase(Phase::transfer);
  c10::cuda::CUDAStreamGuard on_copy_stream(streams_->copy);
  auto event = std::make_shared<at::cuda::CUDAEvent>();
  CopiedBatch out{batch.to(streams_->device, /*non_blocking=*/true), nullptr};
  event->record(streams_->copy);
  out.mark = std::move(event);
  return out;
}

Batch CopyAhead::finish(CopiedBatch copied) {
  if (!copied.mark) return std::move(copied.batch);
  const PhaseScope phase(Phase::transfer);
  std::static_pointer_cast<at::cuda::CUDAEvent>(copied.mark)->block(streams_->compute);
  // The memory belongs to the copy stream's pool: it may be used again only when the computing stream is past it.
  for (const auto& tensor : copied.batch.tensors()) {
    if (tensor.is_cuda()) c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(), streams_->compute);
  }
  return std::move(copied.batch);
}

#else

struct CopyAhead::Streams {};

CopyAhead::CopyAhead(torch::Device) {}
CopiedBatch CopyAhead::begin(Batch batch) {
  return {std::move(batch), nullptr};
}
Batch CopyAhead::finish(CopiedBatch copied) {
  return std::move(copied.batch);
}

#endif

CopyAhead::~CopyAhead() = default;

}  // namespace troupe
