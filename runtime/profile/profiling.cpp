#include "troupe/runtime/profile/profiling.hpp"

#include "troupe/base/exception_text.hpp"
#include "troupe/modules/support/profile.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/profile/operator_profiler.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"
#include "troupe/runtime/profile/trace.hpp"

#include <utility>

namespace troupe {

namespace {

// The one of this process.
struct Current {
  std::mutex mutex;
  std::weak_ptr<Profiling> profiling;
};

Current& current_profiling() {
  static Current& current = *new Current;  // threads may ask when the process ends
  return current;
}

class LaneScopes final : public ScopeRecorder {
 public:
  std::shared_ptr<void> begin(std::string_view name, const void* scope) override {
    const auto part = share_lane_of_thread();
    if (part) part->begin(SpanKind::scope, name, scope);
    return part;
  }
  void end(void* begun, const void* scope) noexcept override { static_cast<Lane*>(begun)->end(scope); }
};

LaneScopes& lane_scopes() {
  static LaneScopes& scopes = *new LaneScopes;  // scopes may be open when a profile ends
  return scopes;
}

// "trace.json" of a fit on rank zero, "trace_test.rank_4.json" of a test on another process.
std::filesystem::path profile_path(const ProfileSetup& setup, const std::string& name, const std::string& extension) {
  return setup.folder / (name + (setup.stage == "fit" ? "" : "_" + setup.stage) +
                         (setup.rank == 0 ? "" : ".rank_" + std::to_string(setup.rank)) + extension);
}

}  // namespace

Profiling::Profiling(ProfileSetup setup)
    : setup_(std::move(setup)), budget_(setup_.most_spans), memory_(std::make_shared<MemoryWatch>()) {}

Profiling::~Profiling() {
  (void)text_thrown_by([&] { end_recording(); });
  leave();
}

bool Profiling::is_wanted(const ProfileSetup& setup) {
  return (setup.kind == Profiler::operators || setup.kind == Profiler::trace) &&
         (!setup.batches || setup.stage == "fit");
}

std::shared_ptr<Profiling> Profiling::start(ProfileSetup setup) {
  if (!is_wanted(setup)) return nullptr;
  std::shared_ptr<Profiling> made;
  {
    auto& [mutex, profiling] = current_profiling();
    const std::lock_guard lock(mutex);
    if (profiling.lock()) return nullptr;
    made.reset(new Profiling(std::move(setup)));
    profiling = made;
    state_ = waiting;
  }
  if (!made->setup_.batches) made->begin_recording();
  return made;
}

std::shared_ptr<Profiling> Profiling::current() {
  auto& [mutex, profiling] = current_profiling();
  const std::lock_guard lock(mutex);
  return profiling.lock();
}

// --- Beginning and end ---

void Profiling::begin_recording() {
  const std::lock_guard lock(mutex_);
  if (is_recording_ || begun_at_ != 0) return;
  is_recording_ = true;
  MemoryWatch::spend_first_warning(memory_);
  number_.fetch_add(1, std::memory_order_release);
  begun_at_ = nanoseconds_now();
  state_ = setup_.kind == Profiler::trace ? traced : summed;
  ScopeRecorder::current = &lane_scopes();
  callback_ = observe_operators();
}

void Profiling::end_recording() {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(is_recording_, false)) return;
  forget_operators(callback_);
  ScopeRecorder::current = nullptr;
  state_ = waiting;
  ended_at_ = nanoseconds_now();
}

// Another one may be the process's from now on.
void Profiling::leave() {
  auto& [mutex, profiling] = current_profiling();
  const std::lock_guard lock(mutex);
  if (std::exchange(is_over_, true)) return;
  profiling.reset();
  state_ = off;
}

void Profiling::before_training_batch(int64_t number) {
  latest_batch_ = number;
  if (setup_.batches && number >= setup_.batches->first && number <= setup_.batches->last) begin_recording();
}

void Profiling::after_training_batch(int64_t number) {
  if (is_recording()) ++batches_;
  if ((setup_.batches && number >= setup_.batches->last) || is_full()) end_recording();
}

std::string Profiling::take_warning() {
  if (!is_full() || has_warned_.exchange(true)) return "";
  end_recording();
  return "the trace is full after " + std::to_string(setup_.most_spans) + " spans, at training batch " +
         std::to_string(latest_batch_) + ", and nothing more is recorded: choose fewer batches with" +
         " trainer.profile_steps, as 100-120";
}

ProfileEnd Profiling::end() {
  end_recording();
  leave();
  ProfileEnd said;
  if (begun_at_ == 0) {
    said.warnings.push_back(
        "nothing was profiled: no training batch of trainer.profile_steps = " + std::to_string(setup_.batches->first) +
        "-" + std::to_string(setup_.batches->last) + " came, the latest one was " + std::to_string(latest_batch_));
    return said;
  }
  if (auto warning = take_warning(); !warning.empty()) said.warnings.push_back(std::move(warning));
  const auto attempt = [&](const auto& write) {
    if (auto problem = text_thrown_by(write); !problem.empty())
      said.warnings.push_back(problem + " (trainer.profiler)");
  };
  const OperatorTable table = operators_of(*this);
  if (setup_.kind == Profiler::operators) said.text = to_text(table);
  if (setup_.folder.empty()) return said;
  attempt([&] { write_text_atomically(profile_path(setup_, "operators", ".txt"), to_text(table)); });
  attempt([&] { write_text_atomically(profile_path(setup_, "operators", ".json"), to_json(table).dump(1) + "\n"); });
  if (setup_.kind != Profiler::trace) return said;
  attempt([&] {
    const auto path = profile_path(setup_, "trace", ".json");
    write_trace(*this, path);
    said.text = "trace: " + path.string() + ", which https://ui.perfetto.dev opens\n";
  });
  return said;
}

// --- What it has ---

std::shared_ptr<Lane> Profiling::add_lane(std::string name) {
  const std::lock_guard lock(mutex_);
  lanes_.push_back(std::make_shared<Lane>(std::move(name), static_cast<int64_t>(lanes_.size()) + 1,
                                          setup_.kind == Profiler::trace ? &budget_ : nullptr));
  return lanes_.back();
}

std::vector<std::shared_ptr<const Lane>> Profiling::lanes() const {
  const std::lock_guard lock(mutex_);
  return {lanes_.begin(), lanes_.end()};
}

double Profiling::seconds() const {
  if (begun_at_ == 0) return 0;
  return 1e-9 * static_cast<double>((ended_at_ != 0 ? ended_at_.load() : nanoseconds_now()) - begun_at_);
}

int64_t Profiling::peak_bytes(bool of_device) const {
  return memory_->peak(of_device);
}

}  // namespace troupe
