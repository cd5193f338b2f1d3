#include "troupe/actors/loader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <future>
#include <mutex>
#include <set>
#include <thread>

namespace troupe::cast {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

/// What a loader answers, as the worker that this test plays sees it.
struct OfLoader {
  enum Kind { batch, end, failure, none } kind = none;
  BatchReady ready;
  EndOfData end_of_data;
  LoaderFailed failed;
};

class LoaderTest : public testing::Test {
 protected:
  ActorRef spawn(DataLoader loader, LoaderSetup rest = {.loader = DataLoader(std::make_shared<Nothing>())}) {
    rest.loader = std::move(loader);
    rest.seed = 7;
    rest.stage = Stage::fit;
    return spawn_loader(system, std::move(rest));
  }
  template <class Message>
  void say(const ActorRef& loader, Message message) {
    worker->send(loader, std::move(message));
  }
  /// The next answer; batches that came in a group one by one.
  OfLoader hear() {
    OfLoader out;
    if (group.empty()) out = receive();
    if (group.empty()) return out;
    out.kind = OfLoader::batch;
    out.ready = std::move(group.front());
    group.pop_front();
    return out;
  }
  OfLoader receive() {
    OfLoader out;
    worker->receive([&](BatchReady& ready) { out.kind = OfLoader::batch, out.ready = std::move(ready); },
                    [&](BatchesReady& ready) {
                      EXPECT_GT(ready.batches.size(), 1u);
                      for (auto& one : ready.batches) {
                        EXPECT_EQ(one.ticket, ready.ticket);
                        group.push_back(std::move(one));
                      }
                    },
                    [&](EndOfData& end) { out.kind = OfLoader::end, out.end_of_data = end; },
                    [&](LoaderFailed& failed) { out.kind = OfLoader::failure, out.failed = std::move(failed); },
                    caf::after(20s) >> [&] { ADD_FAILURE() << "the loader says nothing"; });
    return out;
  }
  /// The batches from `position` to the end, one credit given back for each.
  std::vector<Batch> serve(const ActorRef& loader, OpenLoader request) {
    std::vector<Batch> out;
    say(loader, request);
    for (auto answer = hear(); answer.kind == OfLoader::batch; answer = hear()) {
      EXPECT_EQ(answer.ready.index, request.position + static_cast<int64_t>(out.size()));
      EXPECT_EQ(answer.ready.ticket, request.ticket);
      EXPECT_FALSE(ended) << "a batch came after the last one";
      ended = answer.ready.last;
      out.push_back(std::move(answer.ready.batch));
      say(loader, Credit{request.ticket, 1});
      last_answer = answer;
    }
    EXPECT_EQ(ended, !out.empty());
    ended = false;
    return out;
  }
  bool ends(const ActorRef& loader) {
    bool out = false;
    worker->monitor(loader);
    worker->receive([&](caf::down_msg&) { out = true; }, caf::after(20s) >> [] {});
    return out;
  }

  struct Nothing : Dataset {
    int64_t size() const override { return 0; }
    Batch get(int64_t) override { return {}; }
  };

  caf::actor_system_config config;
  caf::actor_system system{config};
  caf::scoped_actor worker{system};
  bool ended = false;
  OfLoader last_answer;
  std::deque<BatchReady> group;
};

/// Samples that a fetcher augments: (index, a random number).
struct Augmented : Dataset {
  explicit Augmented(int64_t count) : count(count) {}
  int64_t size() const override { return count; }
  Batch get(int64_t index) override {
    return {torch::full({1}, static_cast<float>(index)), torch::rand({2}) + torch::randn({2})};
  }
  int64_t count;
};

struct InMemory : Dataset {
  int64_t size() const override { return values.size(0); }
  Batch get(int64_t index) override { return {values[index]}; }
  std::optional<Batch> get_batch(at::IntArrayRef indices) override {
    return Batch{values.index_select(0, torch::tensor(indices)) + torch::rand({1})};
  }
  torch::Tensor values = torch::arange(20, torch::kFloat);
};

struct Failing : Augmented {
  using Augmented::Augmented;
  Batch get(int64_t index) override {
    if (index == 17) throw std::runtime_error("cannot open 17.png");
    return Augmented::get(index);
  }
};

/// Each sample waits until the one before has arrived.
struct Waiting : Dataset {
  int64_t size() const override { return 10; }
  Batch get(int64_t index) override {
    for (int64_t now = arrived; now < index; now = arrived) arrived.wait(now);
    return {torch::full({1}, static_cast<float>(index))};
  }
  void set_arrived(int64_t count) {
    arrived = count;
    arrived.notify_all();
  }
  std::atomic<int64_t> arrived = 0;
};

struct Counting : IterableDataset {
  explicit Counting(int64_t count) : count(count) {}
  void start(int64_t, int64_t shard, int64_t shards) override { at = shard, step = shards; }
  std::optional<Batch> next() override {
    if (at >= count) return std::nullopt;
    Batch out{torch::full({1}, static_cast<float>(at)), torch::rand({1})};
    at += step;
    return out;
  }
  int64_t count, at = 0, step = 1;
};

bool same(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[i].tensor_count(); ++j) {
      if (!a[i].tensors()[j].equal(b[i].tensors()[j])) return false;
    }
  }
  return true;
}

TEST_F(LoaderTest, P9OrderAndRandomStatesAreTheSameForAnyNumberOfFetchers) {
  std::vector<Batch> expected;
  for (const int64_t fetchers : {0, 1, 2, 4}) {
    const auto loader = spawn(DataLoader(std::make_shared<Augmented>(50),
                                         {.batch_size = 3, .shuffle = true, .num_workers = fetchers, .prefetch = 8}));
    const auto batches = serve(loader, {.ticket = 1, .epoch = 2, .credit = 8});
    ASSERT_EQ(batches.size(), 17u);
    EXPECT_EQ(batches.back().size(), 2);
    if (expected.empty()) expected = batches;
    EXPECT_TRUE(same(batches, expected)) << fetchers << " fetchers";
    EXPECT_FALSE(same(serve(loader, {.ticket = 2, .epoch = 3, .credit = 8}), expected));
    EXPECT_TRUE(same(serve(loader, {.ticket = 3, .epoch = 2, .credit = 2}), expected)) << "opened again";
  }
}

TEST_F(LoaderTest, P9AResumedEpochContinuesWithTheSameBatches) {
  for (const int64_t fetchers : {0, 2}) {
    const auto loader =
        spawn(DataLoader(std::make_shared<Augmented>(20), {.batch_size = 3, .shuffle = true, .num_workers = fetchers}));
    const auto all = serve(loader, {.ticket = 1, .credit = 8});
    const auto rest = serve(loader, {.ticket = 2, .position = 4, .credit = 8});
    EXPECT_TRUE(same(rest, {all.begin() + 4, all.end()}));
    const auto part = serve(loader, {.ticket = 3, .position = 2, .limit = 5, .credit = 8});
    EXPECT_TRUE(same(part, {all.begin() + 2, all.begin() + 5}));
  }
}

TEST_F(LoaderTest, P9WholeBatchesHaveRandomStatesOfTheirOwn) {
  const auto one = spawn(DataLoader(std::make_shared<InMemory>(), {.batch_size = 6}));
  const auto two = spawn(DataLoader(std::make_shared<InMemory>(), {.batch_size = 6, .num_workers = 2}));
  const auto batches = serve(one, {.ticket = 1, .credit = 8});
  EXPECT_TRUE(same(batches, serve(two, {.ticket = 1, .credit = 8})));
  EXPECT_FALSE((batches[0][0] - torch::arange(6)).allclose(batches[1][0] - torch::arange(6, 12)));
}

/// Counts the samples asked for beyond what was granted.
struct Metered : Augmented {
  using Augmented::Augmented;
  Batch get(int64_t index) override {
    if (asked.fetch_add(1) >= granted.load()) exceeded = true;
    return Augmented::get(index);
  }
  std::atomic<int64_t> asked{0}, granted{0};
  std::atomic<bool> exceeded{false};
};

TEST_F(LoaderTest, P2P5NothingIsFetchedBeyondTheCredit) {
  for (const int64_t fetchers : {0, 1, 3}) {
    const auto data = std::make_shared<Metered>(40);
    const auto loader = spawn(DataLoader(data, {.batch_size = 2, .num_workers = fetchers}));
    data->granted = 3 * 2;
    say(loader, OpenLoader{.ticket = 1, .credit = 3});
    for (int64_t served = 0; served < 20; ++served) {
      ASSERT_EQ(hear().ready.index, served);
      if (served % 3 != 2) continue;
      EXPECT_EQ(data->asked, data->granted) << "credit was left unused";
      data->granted += 3 * 2;
      say(loader, Credit{1, 3});
    }
    EXPECT_EQ(hear().end_of_data.batches, 20);
    EXPECT_FALSE(data->exceeded) << fetchers << " fetchers";
  }
}

TEST_F(LoaderTest, KeepsNoBatchBackThatTheNextOneMayWaitFor) {
  for (const int64_t fetchers : {0, 1}) {
    const auto data = std::make_shared<Waiting>();
    const auto loader = spawn(DataLoader(data, {.num_workers = fetchers}));
    say(loader, OpenLoader{.ticket = 1, .credit = 10, .group = 100});
    for (int64_t i = 0; i < 10; ++i) {
      const auto answer = hear();
      data->set_arrived(i + 1);
      ASSERT_EQ(answer.kind, OfLoader::batch) << "batch " << i << ", " << fetchers << " fetchers";
      EXPECT_EQ(answer.ready.index, i);
    }
    EXPECT_EQ(hear().kind, OfLoader::end);
    say(loader, EndLoader{});
  }
}

TEST_F(LoaderTest, P2P9BatchesInGroupsAreTheSameInOrderWithinTheCredit) {
  std::vector<Batch> expected;
  for (const int64_t group_size : {1, 4, 100}) {
    for (const int64_t fetchers : {0, 2}) {
      const auto data = std::make_shared<Metered>(50);
      const auto loader = spawn(DataLoader(data, {.batch_size = 2, .shuffle = true, .num_workers = fetchers}));
      data->granted = 10 * 2;
      say(loader, OpenLoader{.ticket = 1, .credit = 10, .group = group_size});
      std::vector<Batch> batches;
      for (int64_t served = 0; served < 25; ++served) {
        auto answer = hear();
        ASSERT_EQ(answer.kind, OfLoader::batch);
        ASSERT_EQ(answer.ready.index, served);
        EXPECT_EQ(answer.ready.last, served == 24);
        batches.push_back(std::move(answer.ready.batch));
        if (served % 5 != 4) continue;
        data->granted += 5 * 2;
        say(loader, Credit{1, 5, group_size});
      }
      EXPECT_EQ(hear().end_of_data.batches, 25);
      EXPECT_FALSE(data->exceeded);
      if (expected.empty()) expected = batches;
      EXPECT_TRUE(same(batches, expected)) << "groups of " << group_size << ", " << fetchers << " fetchers";
    }
  }
}

TEST_F(LoaderTest, P6BatchesInAGroupComeBeforeAFailureAndNoneAfterAClose) {
  for (const int64_t fetchers : {0, 2}) {
    const auto loader = spawn(DataLoader(std::make_shared<Failing>(40), {.batch_size = 5, .num_workers = fetchers}));
    say(loader, OpenLoader{.ticket = 1, .credit = 8, .group = 100});
    for (int64_t i = 0; i < 3; ++i) ASSERT_EQ(hear().ready.index, i);
    EXPECT_EQ(hear().failed.failure.message, "sample 17: cannot open 17.png");
    say(loader, OpenLoader{.ticket = 2, .limit = 2, .credit = 1, .group = 100});
    EXPECT_EQ(hear().ready.index, 0) << "it is not kept back where the credit ends";
    say(loader, OpenLoader{.ticket = 3, .limit = 2, .credit = 8, .group = 100});
    for (int64_t i = 0; i < 2; ++i) {
      const auto answer = hear();
      EXPECT_EQ(answer.ready.ticket, 3);
      EXPECT_EQ(answer.ready.index, i);
    }
    EXPECT_EQ(hear().end_of_data.ticket, 3);
  }
}

TEST_F(LoaderTest, P6AComputedOrderThatFailsFailsItsBatch) {
  struct Climbing : ComputedSampler {
    struct Order : IndexOrder {
      int64_t size() const override { return 12; }
      int64_t at(int64_t position) const override { return position; }
    };
    std::unique_ptr<const IndexOrder> order(int64_t, uint64_t, int64_t) const override {
      return std::make_unique<const Order>();
    }
  };
  for (const int64_t fetchers : {0, 2}) {
    const auto loader =
        spawn(DataLoader(std::make_shared<Augmented>(9),
                         {.batch_size = 3, .num_workers = fetchers, .sampler = std::make_shared<Climbing>()}));
    say(loader, OpenLoader{.ticket = 1, .credit = 8});
    for (int64_t i = 0; i < 3; ++i) ASSERT_EQ(hear().ready.index, i);
    const auto answer = hear();
    EXPECT_EQ(answer.failed.failure.message, "the sampler gave index 9 for a dataset of 9 samples");
    EXPECT_EQ(answer.failed.failure.batch_idx, 3);
  }
}

TEST_F(LoaderTest, AnswersToTheNewTicketOnlyOnceItIsOpenedAgain) {
  for (const int64_t fetchers : {0, 2}) {
    const auto loader = spawn(DataLoader(std::make_shared<Augmented>(40), {.num_workers = fetchers}));
    say(loader, OpenLoader{.ticket = 1, .credit = 5});
    say(loader, OpenLoader{.ticket = 2, .credit = 1});
    say(loader, Credit{1, 30});  // stale: must not add to the credit of ticket 2
    OfLoader answer = hear();
    while (answer.ready.ticket == 1) answer = hear();
    EXPECT_EQ(answer.ready.index, 0);
    say(loader, OpenLoader{.ticket = 3, .limit = 0});
    answer = hear();
    EXPECT_EQ(answer.kind, OfLoader::end) << "the stale credit was used";
    EXPECT_EQ(answer.end_of_data.ticket, 3);
  }
}

TEST_F(LoaderTest, P6AFailureNamesTheSampleAndComesAfterTheBatchesBeforeIt) {
  for (const int64_t fetchers : {0, 1, 4}) {
    const auto loader = spawn(DataLoader(std::make_shared<Failing>(40), {.batch_size = 5, .num_workers = fetchers}),
                              {.loader = DataLoader(std::make_shared<Nothing>()), .loader_idx = 2});
    say(loader, OpenLoader{.ticket = 1, .epoch = 4, .credit = 8});
    for (int64_t i = 0; i < 3; ++i) ASSERT_EQ(hear().ready.index, i);
    const auto answer = hear();
    ASSERT_EQ(answer.kind, OfLoader::failure);
    const Failure& failure = answer.failed.failure;
    EXPECT_EQ(failure.message, "sample 17: cannot open 17.png");
    EXPECT_EQ(failure.hook, "loader 2");
    EXPECT_EQ(failure.stage, "fit");
    EXPECT_EQ(failure.epoch, 4);
    EXPECT_EQ(failure.batch_idx, 3);
    EXPECT_EQ(serve(loader, {.ticket = 2, .limit = 3, .credit = 8}).size(), 3u) << "it can be opened again";
  }
}

TEST_F(LoaderTest, P6FailuresOfCollateSamplerAndReplicateArriveToo) {
  struct Ragged : Dataset {
    int64_t size() const override { return 9; }
    Batch get(int64_t index) override { return {torch::zeros({index == 4 ? 2 : 1})}; }
  };
  struct Broken : Augmented {
    using Augmented::Augmented;
    std::shared_ptr<Dataset> replicate() const override { throw 3; }
  };
  struct Outside : Sampler {
    std::vector<int64_t> indices(int64_t size, uint64_t, int64_t) const override { return {size}; }
  };
  const auto message = [&](DataLoader loader) {
    say(spawn(std::move(loader)), OpenLoader{.ticket = 1, .credit = 1});
    return hear().failed.failure.message;
  };
  const auto data = std::make_shared<Augmented>(9);
  EXPECT_THAT(message(DataLoader(std::make_shared<Ragged>(), {.batch_size = 9})), HasSubstr("sample 4: tensor 0 has"));
  EXPECT_EQ(message(DataLoader(
                data, {.batch_size = 2, .collate = [](auto) -> Batch { throw std::runtime_error("no fit"); }})),
            "collate of samples 0, 1: no fit");
  EXPECT_EQ(message(DataLoader(data, {.sampler = std::make_shared<Outside>()})),
            "the sampler gave index 9 for a dataset of 9 samples");
  EXPECT_EQ(message(DataLoader(std::make_shared<Broken>(9), {.num_workers = 2})),
            "an exception of type int, which is not a std::exception");
}

TEST_F(LoaderTest, AnEmptyDatasetEndsAtOnce) {
  for (const int64_t fetchers : {0, 2}) {
    say(spawn(DataLoader(std::make_shared<Nothing>(), {.shuffle = true, .num_workers = fetchers})),
        OpenLoader{.ticket = 1, .credit = 8});
    const auto answer = hear();
    EXPECT_EQ(answer.kind, OfLoader::end);
    EXPECT_EQ(answer.end_of_data.batches, 0);
  }
}

TEST_F(LoaderTest, GivesEveryFetcherAReplicaOfItsOwn) {
  struct Replicated : Augmented {
    using Augmented::Augmented;
    std::shared_ptr<Dataset> replicate() const override {
      *replicas += 1;
      return std::make_shared<Replicated>(*this);
    }
    Batch get(int64_t index) override {
      if (*replicas == 0) throw std::runtime_error("the original was asked");
      return Augmented::get(index);
    }
    std::shared_ptr<int> replicas = std::make_shared<int>(0);
  };
  const auto data = std::make_shared<Replicated>(30);
  EXPECT_EQ(serve(spawn(DataLoader(data, {.num_workers = 3})), {.ticket = 1, .credit = 8}).size(), 30u);
  EXPECT_EQ(*data->replicas, 3);
}

TEST_F(LoaderTest, NeverFetchesOnTheWorkersThread) {
  struct Threads : Augmented {
    using Augmented::Augmented;
    Batch get(int64_t index) override {
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
      return Augmented::get(index);
    }
    std::mutex mutex;
    std::set<std::thread::id> seen;
  };
  for (const int64_t fetchers : {0, 1}) {
    const auto data = std::make_shared<Threads>(4);
    serve(spawn(DataLoader(data, {.num_workers = fetchers})), {.ticket = 1, .credit = 1});
    EXPECT_EQ(data->seen.count(std::this_thread::get_id()), 0u);
    EXPECT_EQ(data->seen.size(), 1u);
  }
}

/// Holds every fetch until the test lets it go.
struct Held : Augmented {
  using Augmented::Augmented;
  Batch get(int64_t index) override {
    if (calls.fetch_add(1) == 0) entered.set_value();
    released.wait();
    return Augmented::get(index);
  }
  std::atomic<int> calls{0};
  std::promise<void> entered, release;
  std::shared_future<void> released = release.get_future().share();
};

TEST_F(LoaderTest, ClosingWhileFetchingDropsWhatIsInFlight) {
  for (const int64_t fetchers : {0, 2}) {
    const auto data = std::make_shared<Held>(40);
    const auto loader = spawn(DataLoader(data, {.batch_size = 4, .num_workers = fetchers}));
    say(loader, OpenLoader{.ticket = 1, .credit = 6});
    data->entered.get_future().wait();
    say(loader, CloseLoader{});
    say(loader, OpenLoader{.ticket = 2, .limit = 0});
    if (fetchers > 0) {  // it answers while its fetchers are busy
      EXPECT_EQ(hear().end_of_data.ticket, 2);
      data->release.set_value();
    } else {
      data->release.set_value();
      EXPECT_EQ(hear().ready.index, 0) << "the batch in the making is served before the close is read";
      EXPECT_EQ(hear().end_of_data.ticket, 2);
    }
    say(loader, EndLoader{});
    EXPECT_TRUE(ends(loader));
    EXPECT_LE(data->calls, fetchers > 0 ? 2 * 4 : 4);
  }
}

TEST_F(LoaderTest, P7EndsWithItsWorkerItsOwnerAndOnAnExitMessage) {
  const auto data = std::make_shared<Augmented>(400);
  ActorRef of_worker, of_owner, told;
  for (const int64_t fetchers : {0, 2}) {
    const DataLoader description(data, {.num_workers = fetchers});
    of_worker = spawn(description);
    {
      caf::scoped_actor other{system};
      other->send(of_worker, OpenLoader{.ticket = 1, .credit = 3});
      other->receive([](BatchReady&) {}, caf::after(20s) >> [] { ADD_FAILURE(); });
      of_owner = spawn(description, {.loader = description, .owner = caf::actor_cast<ActorRef>(other)});
    }
    EXPECT_TRUE(ends(of_worker));
    EXPECT_TRUE(ends(of_owner)) << "never opened";
    told = spawn(description);
    serve(told, {.ticket = 1, .limit = 1, .credit = 1});
    worker->send_exit(told, caf::exit_reason::normal);
    EXPECT_TRUE(ends(told));
  }
}

TEST_F(LoaderTest, AStreamIsReadInOrderAndItsLastBatchIsKnown) {
  std::vector<Batch> expected;
  for (const int64_t fetchers : {0, 1, 4}) {
    const auto loader = spawn(DataLoader(std::make_shared<Counting>(10), {.batch_size = 4, .num_workers = fetchers}));
    const auto batches = serve(loader, {.ticket = 1, .credit = 8});
    ASSERT_EQ(batches.size(), 3u);
    EXPECT_TRUE(batches[2][0].equal(torch::tensor({{8.0F}, {9.0F}})));
    if (expected.empty()) expected = batches;
    EXPECT_TRUE(same(batches, expected)) << "P9";
    EXPECT_TRUE(same(serve(loader, {.ticket = 2, .position = 1, .credit = 1}), {expected.begin() + 1, expected.end()}));
    EXPECT_TRUE(same(serve(loader, {.ticket = 3, .limit = 2, .credit = 8}), {expected.begin(), expected.begin() + 2}));
  }
}

TEST_F(LoaderTest, AStreamsLengthCountsDropLastAndWholeBatches) {
  const auto length = [&](int64_t samples, bool drop_last, int64_t position = 0) {
    const auto loader =
        spawn(DataLoader(std::make_shared<Counting>(samples), {.batch_size = 4, .drop_last = drop_last}));
    say(loader, OpenLoader{.ticket = 1, .position = position, .credit = 9});
    auto answer = hear();
    bool last = false;
    while (answer.kind == OfLoader::batch) {
      EXPECT_FALSE(last);
      last = answer.ready.last;
      answer = hear();
    }
    return answer.end_of_data.batches;
  };
  EXPECT_EQ(length(10, false), 3);
  EXPECT_EQ(length(10, true), 2);
  EXPECT_EQ(length(8, false), 2);
  EXPECT_EQ(length(8, true), 2);
  EXPECT_EQ(length(3, true), 0);
  EXPECT_EQ(length(0, false), 0);
  EXPECT_EQ(length(10, false, 7), 3);
}

TEST_F(LoaderTest, AStreamsFailureNamesTheSampleAndItsShardIsServed) {
  struct Broken : Counting {
    using Counting::Counting;
    std::optional<Batch> next() override {
      if (at >= 6) throw std::runtime_error("lost the connection");
      return Counting::next();
    }
  };
  const auto broken = spawn(DataLoader(std::make_shared<Broken>(10), {.batch_size = 2}));
  say(broken, OpenLoader{.ticket = 1, .credit = 8});
  auto answer = hear();
  while (answer.kind == OfLoader::batch) answer = hear();
  EXPECT_EQ(answer.failed.failure.message, "sample 6: lost the connection");

  const auto description = DataLoader(std::make_shared<Counting>(10), {.batch_size = 2});
  const auto odd = serve(spawn(description, {.loader = description, .shard = 1, .shards = 2}), {.credit = 8});
  ASSERT_EQ(odd.size(), 3u);
  EXPECT_TRUE(odd[0][0].equal(torch::tensor({{1.0F}, {3.0F}})));
}

}  // namespace
}  // namespace troupe::cast
