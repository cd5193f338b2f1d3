#include "troupe/runtime/collectives/failure_channel.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/mpi_error.hpp"
#include "troupe/runtime/collectives/mpi_losses.hpp"

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace troupe {
namespace {

constexpr int failure_tag = 1;

// Messages on their way: MPI reads the text until it has sent it.
struct Sending {
  std::string message;
  std::vector<MPI_Request> requests;
};

}  // namespace

struct FailureChannel::Shared {
  void listen() {
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, poll, [this] { return stop; })) {
      lock.unlock();
      while (receive()) {
      }
      if (on_loss) look_for_losses();
      lock.lock();
    }
  }

  // Hears one message, if one is there.
  bool receive() {
    int there = 0;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    if (MPI_Improbe(MPI_ANY_SOURCE, failure_tag, communicator, &there, &handle, &status) != MPI_SUCCESS) return false;
    if (!there) return false;
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    std::string message(static_cast<std::size_t>(bytes), '\0');
    if (MPI_Mrecv(message.data(), bytes, MPI_BYTE, &handle, &status) != MPI_SUCCESS) return false;
    listener(status.MPI_SOURCE, message);
    return true;
  }

  void look_for_losses() {
    const int handle = MPI_Comm_c2f(communicator);
    const bool others_know = is_revoked(handle);
    std::vector<int> lost;
    try {
      lost = lost_ranks(handle);
    } catch (const CollectiveError&) {
      // It is revoked, then.
    }
    if (lost.size() <= losses && others_know == was_revoked) return;
    losses = std::max(losses, lost.size());
    was_revoked = others_know;
    on_loss(lost);
  }

  MPI_Comm communicator = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  std::size_t losses = 0;  // that were told
  bool was_revoked = false;
  Listener listener;
  LossListener on_loss;
  std::chrono::milliseconds poll{};
  std::shared_ptr<void> user;
  std::mutex mutex;
  std::condition_variable wake;
  bool stop = false;
  std::thread thread;
};

FailureChannel::FailureChannel(MpiWorld& world, Listener listener, std::chrono::milliseconds poll, LossListener on_loss)
    : shared_(std::make_unique<Shared>()) {
  shared_->communicator = MPI_Comm_f2c(world.new_communicator());
  shared_->rank = world.rank();
  shared_->size = world.size();
  shared_->listener = std::move(listener);
  if (mpi_survives_losses()) shared_->on_loss = std::move(on_loss);
  shared_->poll = poll;
  shared_->user = world.user();
  shared_->thread = std::thread([shared = shared_.get()] { shared->listen(); });
}

FailureChannel::~FailureChannel() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->wake.notify_one();
  shared_->thread.join();
}

bool FailureChannel::announce(const std::string& message, std::chrono::milliseconds limit) {
  auto sending = std::make_unique<Sending>(Sending{message, {}});
  for (int rank = 0; rank < shared_->size; ++rank) {
    if (rank == shared_->rank) continue;
    auto& request = sending->requests.emplace_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(sending->message.data(), static_cast<int>(sending->message.size()), MPI_BYTE, rank, failure_tag,
                        shared_->communicator, &request),
              "MPI_Isend");
  }
  const auto until = std::chrono::steady_clock::now() + limit;
  while (true) {
    int done = 0;
    check_mpi(
        MPI_Testall(static_cast<int>(sending->requests.size()), sending->requests.data(), &done, MPI_STATUSES_IGNORE),
        "MPI_Testall");
    if (done) return true;
    if (std::chrono::steady_clock::now() > until) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  // MPI may still read it: it is left behind, in a process that is about to end.
  static_cast<void>(sending.release());
  return false;
}

}  // namespace troupe
