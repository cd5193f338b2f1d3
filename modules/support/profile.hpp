// Scopes of the user's own in a profile: which part of a step or a dataset takes the time.
#pragma once

#include <atomic>
#include <memory>
#include <string_view>

namespace troupe {

/// Whoever measures scopes. There is one per process while something is profiled, and none most of the time.
class ScopeRecorder {
 public:
  ScopeRecorder(const ScopeRecorder&) = delete;
  ScopeRecorder& operator=(const ScopeRecorder&) = delete;
  virtual ~ScopeRecorder() = default;

  /// A scope of the calling thread begins, which `scope` identifies. What is returned is kept until it ends; null: it
  /// is not measured.
  virtual std::shared_ptr<void> begin(std::string_view name, const void* scope) = 0;
  /// On the same thread.
  virtual void end(void* begun, const void* scope) noexcept = 0;

  /// Null if nothing is profiled. What it points to stays for the rest of the process.
  static inline std::atomic<ScopeRecorder*> current = nullptr;

 protected:
  ScopeRecorder() = default;
};

/// What `profile` returns: the time from here to the end of its block.
class [[nodiscard]] ProfileScope {
 public:
  explicit ProfileScope(std::string_view name) {
    if (auto* recorder = ScopeRecorder::current.load(std::memory_order_acquire)) [[unlikely]]
      begin(*recorder, name);
  }
  ~ProfileScope() {
    if (recorder_) [[unlikely]]
      recorder_->end(begun_.get(), this);
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  void begin(ScopeRecorder& recorder, std::string_view name);

  ScopeRecorder* recorder_ = nullptr;
  std::shared_ptr<void> begun_;
};

/// Measures from here to the end of the block:
///
///     StepOutput training_step(const Batch& batch, int64_t) override {
///       const auto features = [&] {
///         const auto scope = troupe::profile("backbone");
///         return backbone_->forward(batch[0]);
///       }();
///       ...
///
/// With `trainer.profiler = operators` it is a row of the table, with `trace` a span of the thread's lane, around the
/// operators and scopes within. Otherwise it costs one load, below a nanosecond. Any thread may call; the scope ends on
/// the thread that it began on, and those of one thread end in the opposite order. `name` is copied if something is
/// profiled, so that it need not live longer than the call; after 1,000 names in a thread all others count as "other
/// scopes". In a step that is replayed (`trainer.capture_step`) training_step does not run, and neither do its scopes.
inline ProfileScope profile(std::string_view name) {
  return ProfileScope(name);
}

}  // namespace troupe
