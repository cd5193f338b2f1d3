#include "troupe/runtime/collectives/store_failure_channel.hpp"

#include <exception>
#include <utility>
#include <vector>

namespace troupe {
namespace {

constexpr const char* count_key = "troupe/failures";

std::string message_key(int64_t number) {
  return "troupe/failure/" + std::to_string(number);
}

}  // namespace

StoreFailureChannel::StoreFailureChannel(c10::intrusive_ptr<c10d::Store> listening,
                                         c10::intrusive_ptr<c10d::Store> speaking, Listener listener,
                                         std::chrono::milliseconds poll)
    : listening_(std::move(listening)), speaking_(std::move(speaking)), listener_(std::move(listener)), poll_(poll) {
  thread_ = std::thread([this] { listen(); });
}

StoreFailureChannel::~StoreFailureChannel() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool StoreFailureChannel::announce(const std::string& message) {
  try {
    const std::lock_guard lock(mutex_);
    const int64_t number = speaking_->add(count_key, 1);
    own_.insert(number);
    speaking_->set(message_key(number), std::vector<uint8_t>(message.begin(), message.end()));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void StoreFailureChannel::listen() {
  int64_t heard = 0;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, poll_, [this] { return stop_; })) {
    lock.unlock();
    std::vector<std::pair<int64_t, std::string>> messages;
    try {
      const int64_t count = listening_->add(count_key, 0);
      for (; heard < count; ++heard) {
        const auto bytes = listening_->get(message_key(heard + 1));
        messages.emplace_back(heard + 1, std::string(bytes.begin(), bytes.end()));
      }
    } catch (const std::exception&) {
      return;
    }
    lock.lock();
    for (const auto& [number, message] : messages) {
      if (own_.contains(number)) continue;
      lock.unlock();
      listener_(message);
      lock.lock();
    }
  }
}

}  // namespace troupe
