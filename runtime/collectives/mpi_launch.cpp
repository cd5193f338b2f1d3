#include "troupe/base/number_text.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/failure_channel.hpp"
#include "troupe/runtime/collectives/launch.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"
#include "troupe/runtime/collectives/mpi_losses.hpp"
#include "troupe/runtime/collectives/mpi_store.hpp"
#include "troupe/runtime/collectives/mpi_world.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace troupe {

namespace {

// How long those that are left may take to find out who they are: it is a matter of milliseconds.
constexpr std::chrono::seconds patience_with_recovery{30};

// The same of MPI's end after that.
constexpr std::chrono::seconds patience_with_end{30};

// And of its start, in which Open MPI 5 waits for ever for a process that is lost there.
constexpr std::chrono::seconds patience_with_start{300};

std::string in_words(std::chrono::milliseconds patience) {
  return double_to_text(std::chrono::duration<double>(patience).count()) + " s";
}

// A call of MPI that nothing else can end has `patience` while this exists. Then `then` is called, on another thread.
class EndOfPatience {
 public:
  EndOfPatience(std::chrono::milliseconds patience, const std::function<void()>& then)
      : thread_([this, patience, then] {
          std::unique_lock lock(mutex_);
          if (!over_.wait_for(lock, patience, [this] { return is_over_; })) then();
        }) {}
  ~EndOfPatience() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    over_.notify_all();
    thread_.join();
  }
  EndOfPatience(const EndOfPatience&) = delete;
  EndOfPatience& operator=(const EndOfPatience&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool is_over_ = false;
  std::thread thread_;  // the last: it uses the others
};

[[noreturn]] void end_at_once(const std::string& why, int status) {
  std::cerr << "troupe: " + why + "\n";
  std::cerr.flush();
  std::_Exit(status);
}

std::unique_ptr<MpiWorld> start_mpi() {
  std::optional<EndOfPatience> end;
  if (mpi_survives_losses()) {
    end.emplace(patience_with_start, [] {
      end_at_once("MPI has not started within " + in_words(patience_with_start) +
                      ": another process is lost, or does not come; this one ends",
                  1);
    });
  }
  return std::make_unique<MpiWorld>();
}

class MpiLaunch : public Launch {
 public:
  explicit MpiLaunch(const LaunchEnvironment& launched) : world_(start_mpi()) {
    check_size_of_mpi(launched, world_->size());
    if (world_->size() > 1) host_ = host_of(world_->rank());
  }

  int64_t rank() const override { return world_->rank(); }
  int64_t size() const override { return world_->size(); }
  int64_t local_rank() const override { return world_->local_rank(); }
  int64_t local_size() const override { return world_->local_size(); }
  const std::string& host() const override { return host_; }
  std::string name_of(int64_t process) const override { return Launch::name_of(process) + " on " + host_of(process); }

  c10::intrusive_ptr<CollectiveBackend> make_between(const CollectiveOptions& options,
                                                     std::chrono::microseconds keeps_core) override {
    return c10::make_intrusive<MpiBackend>(*world_, options, keeps_core);
  }
  c10::intrusive_ptr<c10d::Store> make_store(std::chrono::milliseconds timeout) override {
    return c10::make_intrusive<MpiStore>(*world_, timeout);
  }

  void listen(Listener listener) override;
  void stop_listening() override { failures_.reset(); }
  void announce(const std::string& message, std::chrono::milliseconds limit) override {
    if (failures_) failures_->announce(message, limit);
  }

  bool survives_losses() const override { return mpi_survives_losses(); }
  bool has_losses(std::chrono::milliseconds patience) override;
  bool is_spare() const override { return world_->is_spare(); }
  void keep_spares(int64_t most, const Regrouping& regrouping) override;
  Outcome agree(Outcome mine, std::chrono::milliseconds patience) override;
  std::string recover(const Regrouping& regrouping) override;
  void prepare_end(int exit_status) override;

 private:
  const std::string& host_of(int64_t process) const { return world_->hosts()[static_cast<std::size_t>(process)]; }
  void set_losses(bool has_losses);
  Failure failure_by_loss_of(const std::vector<int>& ranks) const;
  bool all_join(const Regrouping& regrouping);

  std::optional<EndOfPatience> end_;  // the first: it outlives MPI
  const std::unique_ptr<MpiWorld> world_;
  std::string host_;
  std::unique_ptr<FailureChannel> failures_;
  bool has_recovered_ = false;

  std::mutex mutex_;
  std::condition_variable lost_one_;
  bool has_losses_ = false;  // since the last recovery
};

void MpiLaunch::listen(Listener listener) {
  // A loss is to be noticed within milliseconds.
  const std::chrono::milliseconds look_interval(survives_losses() ? 5 : 50);
  failures_ = std::make_unique<FailureChannel>(
      *world_, [told = std::move(listener.told)](int, const std::string& message) { told(message); }, look_interval,
      [this, lost = std::move(listener.lost)](const std::vector<int>& ranks) {
        set_losses(true);
        lost(failure_by_loss_of(ranks));
      });
}

void MpiLaunch::set_losses(bool has_losses) {
  const std::lock_guard lock(mutex_);
  has_losses_ = has_losses;
  lost_one_.notify_all();
}

bool MpiLaunch::has_losses(std::chrono::milliseconds patience) {
  if (!survives_losses()) return false;
  std::unique_lock lock(mutex_);
  return lost_one_.wait_for(lock, patience, [this] { return has_losses_; });
}

// MPI knows that these processes are gone; none: another process knows of one.
Failure MpiLaunch::failure_by_loss_of(const std::vector<int>& ranks) const {
  Failure failure;
  failure.is_loss = true;
  failure.hook = "the run as a whole";
  if (!ranks.empty()) {
    failure.rank = ranks.back();
    failure.host = host_of(ranks.back());
  }
  failure.message = (ranks.empty() ? "a process" : names_of(ranks)) + (ranks.size() > 1 ? " are lost" : " is lost");
  return failure;
}

void MpiLaunch::keep_spares(int64_t most, const Regrouping& regrouping) {
  if (!survives_losses() || is_spare() || size() <= most) return;
  regrouping.part();
  world_->keep_spares(static_cast<int>(most));
  try {
    world_->look_around();
    regrouping.join();
  } catch (const CollectiveError&) {
    set_losses(true);
    throw;
  }
}

// Who is lost does not keep the others from ending what they wait in; they hear of it there and come here too. MPI is
// asked on another thread: nothing else ends that call, and a failure is to be told whoever does not come.
Launch::Outcome MpiLaunch::agree(Outcome mine, std::chrono::milliseconds patience) {
  constexpr unsigned none_lost = 1, none_failed = 2, none_has_trained = 4;
  const unsigned bits = (mine != Outcome::lost ? none_lost : 0) | (mine != Outcome::failed ? none_failed : 0) |
                        (is_spare() ? none_has_trained : 0);
  if (mine == Outcome::lost) world_->revoke();
  std::packaged_task<Agreement()> ask(
      [world = world_.get(), user = world_->user(), bits] { return world->agree(bits); });
  auto answer = ask.get_future();
  std::thread(std::move(ask)).detach();
  if (mine == Outcome::failed) patience = std::min<std::chrono::milliseconds>(patience, patience_with_recovery);
  if (answer.wait_for(patience) == std::future_status::timeout) {
    if (mine == Outcome::failed) return mine;
    leave_the_others("the processes have not come together within " + in_words(patience));
  }
  const auto all = answer.get();
  if (!(all.bits & none_failed)) return Outcome::failed;
  if (!(all.bits & none_lost) || (all.bits & none_has_trained)) return Outcome::lost;
  return all.all_are_there ? Outcome::well : Outcome::fewer;
}

// Who notices one more loss revokes what the others wait in, so that all come back here.
std::string MpiLaunch::recover(const Regrouping& regrouping) {
  const EndOfPatience end(patience_with_recovery, [] {
    leave_the_others("the processes that are left have not come together within " + in_words(patience_with_recovery));
  });
  has_recovered_ = true;
  std::string lost;
  do {
    regrouping.part();
    set_losses(false);
    world_->revoke();
    const auto names = names_of(world_->shrink());
    if (!names.empty()) lost += (lost.empty() ? "" : ", ") + names;
  } while (!all_join(regrouping));
  return lost;
}

// Whether all that were left at the last shrink() have come together, and see it alike.
bool MpiLaunch::all_join(const Regrouping& regrouping) {
  bool has_joined = false;
  try {
    world_->look_around();
    regrouping.join();
    has_joined = true;
  } catch (const CollectiveError&) {
    world_->revoke();
  }
  const auto all = world_->agree(has_joined ? 1 : 0);
  return all.all_are_there && all.bits != 0;
}

void MpiLaunch::prepare_end(int exit_status) {
  if (!has_recovered_) return;
  end_.emplace(patience_with_end, [exit_status] {
    end_at_once("MPI has not ended within " + in_words(patience_with_end) + ": this process ends without it",
                exit_status);
  });
}

}  // namespace

std::unique_ptr<Launch> make_mpi_launch(const LaunchEnvironment& launched) {
  return std::make_unique<MpiLaunch>(launched);
}

}  // namespace troupe
