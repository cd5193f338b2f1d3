// What threads share outside of messages, on plain threads, for the thread sanitizer: CAF of the distribution is not
// instrumented, so every message between actors would look like a race to it. The queues here stand for mailboxes.
#include "tests/support/temp_dir.hpp"
#include "troupe/actors/fetcher.hpp"
#include "troupe/actors/outlet.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/snapshot_memory.hpp"
#include "troupe/runtime/data/tensor_dataset.hpp"
#include "troupe/runtime/sinks/csv_sink.hpp"
#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace troupe::cast {
namespace {

template <class Message>
class Mailbox {
 public:
  void put(Message message) {
    {
      const std::lock_guard lock(mutex_);
      messages_.push_back(std::move(message));
    }
    changed_.notify_one();
  }
  Message take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !messages_.empty(); });
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> messages_;
};

TEST(SharedMemory, FetchersReadOneDatasetTogether) {
  constexpr int64_t samples = 256, batch = 8, fetchers = 4, rounds = 20;
  const auto x = torch::arange(samples * 3, torch::kFloat32).view({samples, 3});
  const DataLoader loader(std::make_shared<TensorDataset>(x, torch::arange(samples)), {.batch_size = batch});
  const auto plan = std::make_shared<const EpochPlan>(loader, EpochRequest{});
  const auto serving = std::make_shared<Serving>(0);
  Mailbox<std::optional<Fetch>> work;
  Mailbox<Fetched> done;
  std::vector<std::jthread> threads;
  for (int64_t i = 0; i < fetchers; ++i) {
    threads.emplace_back([&] {
      Pulse pulse("a fetcher");
      FetchWork fetcher(loader, 1, 0, 1, serving);
      while (const auto fetch = work.take()) done.put(fetcher.run(*fetch, pulse));
    });
  }
  int64_t whole = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    serving->store(round);  // the batches of the round before are no longer wanted
    for (int64_t first = 0; first < samples; first += batch) {
      Fetch fetch;
      fetch.serving = round;
      fetch.index = first / batch;
      fetch.plan = plan;
      work.put(std::move(fetch));
    }
    const int64_t read = round % 2 == 0 ? samples / batch : samples / batch / 2;  // and every other round is left early
    for (int64_t i = 0; i < read; ++i) {
      const auto fetched = done.take();
      EXPECT_FALSE(fetched.failed) << fetched.error;
      if (fetched.batch.empty()) continue;
      whole += 1;
      EXPECT_TRUE(torch::equal(fetched.batch[0], x.slice(0, fetched.index * batch, (fetched.index + 1) * batch)));
    }
  }
  for (int64_t i = 0; i < fetchers; ++i) work.put(std::nullopt);
  threads.clear();
  EXPECT_GT(whole, samples / batch);
}

TEST(SharedMemory, ALoggersSinksAreItsOwnWhileOthersWaitForRoom) {
  constexpr int64_t writers = 3, records = 200;
  const TempDir dir;
  InFlight in_flight(8);
  Mailbox<std::optional<ScalarsRecord>> mailbox;
  std::jthread logger([&] {
    CsvSink csv(dir.path());
    TensorBoardSink board(dir.path());
    while (const auto record = mailbox.take()) {
      in_flight.remove();
      csv.write(*record);
      board.write(*record);
    }
    csv.flush();
    board.flush();
    in_flight.close();
  });
  std::vector<std::jthread> threads;
  for (int64_t w = 0; w < writers; ++w) {
    threads.emplace_back([&, w] {
      for (int64_t step = 0; step < records; ++step) {
        if (in_flight.add()) mailbox.put(ScalarsRecord{step, 0, {{"loss", static_cast<double>(w)}}});
      }
    });
  }
  threads.clear();
  mailbox.put(std::nullopt);
  logger.join();
  EXPECT_FALSE(in_flight.add());  // nobody waits for a closed one
  std::ifstream file(dir / "metrics.csv");
  int64_t lines = 0;
  for (std::string line; std::getline(file, line);) ++lines;
  EXPECT_EQ(lines, 1 + writers * records);
}

TEST(SharedMemory, ACheckpointIsWrittenWhileTheTrainingGoesOn) {
  const TempDir dir;
  torch::nn::Linear net(16, 16);
  torch::optim::SGD optimizer(net->parameters(), 0.1);
  Mailbox<std::shared_ptr<const Checkpoint>> mailbox;
  std::jthread checkpointer([&] {
    for (int64_t i = 0; const auto snapshot = mailbox.take(); ++i) {
      write_checkpoint(*snapshot, dir / (std::to_string(i) + ".safetensors"));
    }
  });
  SnapshotMemory memory;  // what the checkpointer has dropped is used again
  std::vector<torch::Tensor> expected;
  for (int64_t step = 0; step < 10; ++step) {
    optimizer.zero_grad();
    net(torch::ones({4, 16})).square().mean().backward();
    optimizer.step();
    auto checkpoint = std::make_shared<Checkpoint>();
    memory.begin();
    checkpoint->tensors.emplace_back("model.weight", memory.copy("model.weight", net->weight));
    expected.push_back(net->weight.detach().clone());
    mailbox.put(std::move(checkpoint));
  }
  mailbox.put(nullptr);
  checkpointer.join();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto read = read_checkpoint(dir / (std::to_string(i) + ".safetensors"));
    EXPECT_TRUE(torch::equal(*read.find("model.weight"), expected[i])) << i;
  }
}

}  // namespace
}  // namespace troupe::cast
