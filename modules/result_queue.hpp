// Values on their way from a worker to the thread that called the Trainer.
#pragma once

#include <any>
#include <deque>
#include <stdexcept>
#include <utility>

namespace troupe {

/// First in, first out. Used by one thread at a time: the worker's, then the caller's.
class ResultQueue {
 public:
  void put(std::any value) { values_.push_back(std::move(value)); }
  /// The next value; throws std::out_of_range when there is none, std::bad_any_cast for another type.
  template <class T>
  T get() {
    if (values_.empty()) throw std::out_of_range("the result queue is empty");
    T value = std::any_cast<T>(std::move(values_.front()));
    values_.pop_front();
    return value;
  }
  bool empty() const { return values_.empty(); }

 private:
  std::deque<std::any> values_;
};

}  // namespace troupe
