#include "troupe/runtime/collectives/mpi_store.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/collective_work.hpp"
#include "troupe/runtime/collectives/mpi_error.hpp"

#include <torch/csrc/distributed/c10d/HashStore.hpp>

#define OMPI_SKIP_MPICXX 1  // the C interface alone
#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace troupe {
namespace {

using Bytes = std::vector<uint8_t>;
using StoreClock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int request_tag = 1;
constexpr int answer_tag = 2;
constexpr int server = 0;

enum class Action : int64_t { set, compare_set, get, add, remove, check, count };

// A request or an answer: a list of byte strings, each behind its length.
class Message {
 public:
  void put(const void* data, std::size_t size) {
    put_raw(&size, sizeof size);
    put_raw(data, size);
  }
  void put(const std::string& text) { put(text.data(), text.size()); }
  void put(const Bytes& bytes) { put(bytes.data(), bytes.size()); }
  void put(int64_t number) { put(&number, sizeof number); }

  Bytes take_bytes() {
    std::size_t size = 0;
    take_raw(&size, sizeof size);
    if (size > data_.size() - read_) throw CollectiveError("the store got a message that is cut off");
    Bytes bytes(data_.begin() + static_cast<std::ptrdiff_t>(read_),
                data_.begin() + static_cast<std::ptrdiff_t>(read_ + size));
    read_ += size;
    return bytes;
  }
  std::string take_text() {
    const auto bytes = take_bytes();
    return {bytes.begin(), bytes.end()};
  }
  int64_t take_number() {
    const auto bytes = take_bytes();
    int64_t number = 0;
    if (bytes.size() != sizeof number) throw CollectiveError("the store got a message of a wrong form");
    std::memcpy(&number, bytes.data(), sizeof number);
    return number;
  }
  Bytes& data() { return data_; }

 private:
  void put_raw(const void* data, std::size_t size) {
    const auto* const bytes = static_cast<const uint8_t*>(data);
    data_.insert(data_.end(), bytes, bytes + size);
  }
  void take_raw(void* to, std::size_t size) {
    if (size > data_.size() - read_) throw CollectiveError("the store got a message that is cut off");
    std::memcpy(to, data_.data() + read_, size);
    read_ += size;
  }

  Bytes data_;
  std::size_t read_ = 0;
};

// What one request does to the table; the answer's content.
Message answer_to(Message& request, c10d::HashStore& table) {
  Message answer;
  const auto action = static_cast<Action>(request.take_number());
  if (action == Action::count) {
    answer.put(table.getNumKeys());
    return answer;
  }
  const std::string key = request.take_text();
  switch (action) {
    case Action::set: table.set(key, request.take_bytes()); break;
    case Action::compare_set: {
      const auto current = request.take_bytes();
      answer.put(table.compareSet(key, current, request.take_bytes()));
      break;
    }
    case Action::get:  // a list: with the value, or empty
      if (table.check({key})) answer.put(table.get(key));
      break;
    case Action::add: answer.put(table.add(key, request.take_number())); break;
    case Action::remove: answer.put(static_cast<int64_t>(table.deleteKey(key))); break;
    case Action::check: answer.put(static_cast<int64_t>(table.check({key}))); break;
    default: throw CollectiveError("the store got a request that it does not know");
  }
  return answer;
}

void send(MPI_Comm communicator, Bytes& data, int rank, int tag) {
  check_mpi(MPI_Send(data.data(), static_cast<int>(data.size()), MPI_BYTE, rank, tag, communicator), "MPI_Send");
}

// A message with that tag, if one is there, and its sender.
std::optional<std::pair<Message, int>> receive(MPI_Comm communicator, int rank, int tag) {
  int there = 0;
  MPI_Message handle = MPI_MESSAGE_NULL;
  MPI_Status status;
  check_mpi(MPI_Improbe(rank, tag, communicator, &there, &handle, &status), "MPI_Improbe");
  if (!there) return {};
  int bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &bytes);
  Message message;
  message.data().resize(static_cast<std::size_t>(bytes));
  check_mpi(MPI_Mrecv(message.data().data(), bytes, MPI_BYTE, &handle, &status), "MPI_Mrecv");
  return std::pair{std::move(message), status.MPI_SOURCE};
}

}  // namespace

// A process's end: on rank 0 the table and the thread that answers, elsewhere the way there.
class MpiStore::Channel {
 public:
  explicit Channel(MpiWorld& world)
      : communicator_(MPI_Comm_f2c(world.new_communicator())), rank_(world.rank()), user_(world.user()) {
    if (rank_ == server && world.size() > 1) thread_ = std::thread([this] { serve(); });
  }

  ~Channel() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  Message ask(Message request, milliseconds timeout) {
    if (rank_ == server) return answer_to(request, *table_);
    const std::lock_guard lock(mutex_);
    // An answer carries its request's number: one that came too late for its request is passed over.
    const int64_t number = ++asked_;
    Message numbered;
    numbered.put(number);
    numbered.put(request.data());
    send(communicator_, numbered.data(), server, request_tag);
    const auto until = StoreClock::now() + timeout;
    auto pause = microseconds(20);
    while (StoreClock::now() < until) {
      if (auto got = receive(communicator_, server, answer_tag)) {
        if (got->first.take_number() != number) continue;
        Message answer;
        answer.data() = got->first.take_bytes();
        return answer;
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, microseconds(5000));
    }
    throw CollectiveTimeout("rank 0 did not answer a request to the store within " + in_seconds(timeout));
  }

 private:
  void serve() {
    constexpr auto shortest = microseconds(200);
    constexpr auto longest = microseconds(10'000);
    auto pause = shortest;
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, pause, [this] { return stop_; })) {
      lock.unlock();
      pause = answer_all() ? shortest : std::min(pause + pause / 8, longest);
      lock.lock();
    }
  }

  // Whether there was a request.
  bool answer_all() {
    bool any = false;
    try {
      while (auto got = receive(communicator_, MPI_ANY_SOURCE, request_tag)) {
        any = true;
        Message answer;
        answer.put(got->first.take_number());
        Message request;
        request.data() = got->first.take_bytes();
        answer.put(answer_to(request, *table_).data());
        auto& sending = sending_.emplace_back();
        sending.data = std::move(answer.data());
        check_mpi(MPI_Isend(sending.data.data(), static_cast<int>(sending.data.size()), MPI_BYTE, got->second,
                            answer_tag, communicator_, &sending.request),
                  "MPI_Isend");
      }
    } catch (const std::exception&) {
      // Whoever asked gets no answer and reports that in its own time.
    }
    std::erase_if(sending_, [](Sending& sending) {
      int done = 0;
      return MPI_Test(&sending.request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done;
    });
    return any;
  }

  struct Sending {
    Bytes data{};
    MPI_Request request = MPI_REQUEST_NULL;
  };

  const MPI_Comm communicator_;
  const int rank_;
  const std::shared_ptr<void> user_;
  const c10::intrusive_ptr<c10d::HashStore> table_ = c10::make_intrusive<c10d::HashStore>();
  std::list<Sending> sending_;  // the server's answers on their way
  std::mutex mutex_;            // rank 0: of `stop_`; elsewhere: one request at a time
  std::condition_variable wake_;
  bool stop_ = false;
  int64_t asked_ = 0;
  std::thread thread_;
};

namespace {

Message request(Action action) {
  Message message;
  message.put(static_cast<int64_t>(action));
  return message;
}

Message request(Action action, const std::string& key) {
  Message message = request(action);
  message.put(key);
  return message;
}

}  // namespace

MpiStore::MpiStore(MpiWorld& world, milliseconds timeout) : MpiStore(std::make_shared<Channel>(world), timeout) {}

MpiStore::MpiStore(std::shared_ptr<Channel> channel, milliseconds timeout)
    : Store(timeout), channel_(std::move(channel)) {}

MpiStore::~MpiStore() = default;

c10::intrusive_ptr<c10d::Store> MpiStore::clone() {
  return c10::intrusive_ptr<MpiStore>::unsafe_steal_from_new(new MpiStore(channel_, timeout_));
}

void MpiStore::set(const std::string& key, const Bytes& value) {
  auto message = request(Action::set, key);
  message.put(value);
  channel_->ask(std::move(message), timeout_);
}

Bytes MpiStore::compareSet(const std::string& key, const Bytes& current, const Bytes& value) {
  auto message = request(Action::compare_set, key);
  message.put(current);
  message.put(value);
  return channel_->ask(std::move(message), timeout_).take_bytes();
}

Bytes MpiStore::get(const std::string& key) {
  wait({key}, timeout_);
  auto answer = channel_->ask(request(Action::get, key), timeout_);
  if (answer.data().empty()) throw CollectiveError("the store has no key '" + key + "' any more");
  return answer.take_bytes();
}

int64_t MpiStore::add(const std::string& key, int64_t value) {
  auto message = request(Action::add, key);
  message.put(value);
  return channel_->ask(std::move(message), timeout_).take_number();
}

bool MpiStore::deleteKey(const std::string& key) {
  return channel_->ask(request(Action::remove, key), timeout_).take_number() != 0;
}

bool MpiStore::check(const std::vector<std::string>& keys) {
  return std::ranges::all_of(keys, [&](const std::string& key) {
    return channel_->ask(request(Action::check, key), timeout_).take_number() != 0;
  });
}

int64_t MpiStore::getNumKeys() {
  return channel_->ask(request(Action::count), timeout_).take_number();
}

void MpiStore::wait(const std::vector<std::string>& keys) {
  wait(keys, timeout_);
}

void MpiStore::wait(const std::vector<std::string>& keys, const milliseconds& timeout) {
  const auto until = StoreClock::now() + timeout;
  auto pause = microseconds(100);
  while (!check(keys)) {
    if (timeout != kNoTimeout && StoreClock::now() > until) {
      std::string names;
      for (const auto& key : keys) names += (names.empty() ? "'" : ", '") + key + "'";
      throw CollectiveTimeout("no rank has set " + names + " in the store within " + in_seconds(timeout));
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, microseconds(20'000));
  }
}

}  // namespace troupe
