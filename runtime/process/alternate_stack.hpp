// A stack for signal handlers, so that a thread whose own stack has overflowed can still say so.
#pragma once

#include <csignal>
#include <cstddef>
#include <memory>

namespace troupe {

/// While it lives, handlers installed with SA_ONSTACK run on it in the thread that made it, which ends it too. A thread
/// that has one (of a sanitizer's, say) keeps that.
class AlternateStack {
 public:
  AlternateStack() {
    stack_t before{};
    if (sigaltstack(nullptr, &before) != 0 || (before.ss_flags & SS_DISABLE) == 0) return;
    memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
    stack_t own{};
    own.ss_sp = memory_.get();
    own.ss_size = size;
    if (sigaltstack(&own, nullptr) != 0) memory_.reset();
  }
  ~AlternateStack() {
    if (!memory_) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    if (sigaltstack(&none, nullptr) != 0) (void)memory_.release();
  }
  AlternateStack(const AlternateStack&) = delete;
  AlternateStack& operator=(const AlternateStack&) = delete;

 private:
  static constexpr std::size_t size = 64 * 1024;
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace troupe
