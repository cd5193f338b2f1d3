#include "troupe/runtime/capture/offered_memory.hpp"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace troupe::capture {

namespace {

// What a thread offers, and how many allocations of each room's size there were.
struct Offer {
  const std::vector<Room>* rooms = nullptr;
  std::vector<std::size_t> seen;
};

thread_local Offer offer;

// Rooms that were handed out and not given back: few at a time.
class Taken {
 public:
  void add(void* room) {
    const std::lock_guard lock(mutex_);
    rooms_.push_back(room);
    count_ = rooms_.size();
  }
  // All memory that LibTorch gives back by this function comes here, mostly while no room is out.
  bool remove(void* room) {
    if (count_ == 0) return false;
    const std::lock_guard lock(mutex_);
    const bool was_here = std::erase(rooms_, room) > 0;
    count_ = rooms_.size();
    return was_here;
  }
  bool has_any(const std::vector<Room>& rooms) {
    if (count_ == 0) return false;
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(rooms, [&](const Room& room) { return std::ranges::count(rooms_, room.data) > 0; });
  }

 private:
  std::mutex mutex_;
  std::vector<void*> rooms_;
  std::atomic<std::size_t> count_ = 0;  // of rooms_
};

Taken& taken() {
  static Taken& rooms = *new Taken;  // memory may come back when the process ends
  return rooms;
}

c10::DeleterFnPtr free_as_usual = nullptr;

// oneDNN takes memory from the allocator without a DataPtr, and gives it back by this function.
void give_back(void* memory) {
  if (!taken().remove(memory)) free_as_usual(memory);
}

// The process's allocator, with the offer of the thread before it.
class OfferingAllocator final : public c10::Allocator {
 public:
  explicit OfferingAllocator(c10::Allocator* usual) : usual_(usual) { free_as_usual = usual->raw_deleter(); }

  c10::DataPtr allocate(std::size_t bytes) override {
    if (offer.rooms) [[unlikely]] {
      if (void* room = room_for(bytes)) {
        taken().add(room);
        return {room, room, give_back, c10::kCPU};
      }
    }
    return usual_->allocate(bytes);
  }
  bool is_simple_data_ptr(const c10::DataPtr& data) const override { return usual_->is_simple_data_ptr(data); }
  c10::DeleterFnPtr raw_deleter() const override { return free_as_usual ? give_back : nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { usual_->copy_data(to, from, bytes); }

 private:
  static void* room_for(std::size_t bytes) {
    for (std::size_t i = 0; i < offer.rooms->size(); ++i) {
      const Room& room = (*offer.rooms)[i];
      if (room.bytes == bytes && offer.seen[i]++ == room.passed) return room.data;
    }
    return nullptr;
  }

  c10::Allocator* usual_;
};

}  // namespace

// Stays for the rest of the process: tensors keep the allocator that they came from.
void prepare_for_offers() {
  static const bool is_prepared = [] {
    c10::SetCPUAllocator(new OfferingAllocator(c10::GetCPUAllocator()), /*priority=*/100);
    return true;
  }();
  (void)is_prepared;
}

OfferedMemory::OfferedMemory(const std::vector<Room>& rooms) {
  prepare_for_offers();
  offer.seen.assign(rooms.size(), 0);
  offer.rooms = &rooms;
}

OfferedMemory::~OfferedMemory() {
  offer.rooms = nullptr;
}

bool is_held(const std::vector<Room>& rooms) {
  return taken().has_any(rooms);
}

}  // namespace troupe::capture
