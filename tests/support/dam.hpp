// A sink that holds back what comes behind it.
#pragma once

#include "troupe/troupe.hpp"

#include <condition_variable>
#include <mutex>
#include <string>
#include <variant>

namespace troupe {

/// While it is closed, what comes behind the metrics of an epoch waits: the checkpoint of its end, too. Any thread may
/// open and close it.
class Dam : public Sink {
 public:
  std::string name() const override { return "dam"; }
  void write(const Record& record) override {
    if (!std::holds_alternative<ScalarsRecord>(record)) return;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_open_; });
  }
  void flush() override {}
  void set_open(bool is_open) {
    const std::lock_guard lock(mutex_);
    is_open_ = is_open;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_ = true;
};

}  // namespace troupe
