// Blocks of parameters by themselves: when they have memory, and what becomes of what is written to them.
#include "troupe/runtime/distributed/parameter_blocks.hpp"

#include "tests/support/ranks_in_memory.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <vector>

namespace troupe {
namespace {

// Three blocks of four numbers, of which each of two ranks keeps two. Block i begins as 4 i, 4 i + 1, ...
struct ThreeBlocks {
  explicit ThreeBlocks(Peers& peers) : blocks(peers) {
    for (int i = 0; i < 3; ++i) {
      auto whole = torch::arange(4 * i, 4 * i + 4, torch::kFloat64);
      parts.push_back(whole.narrow(0, 2 * peers.place().global_rank, 2).clone());
      views.push_back(whole.view({2, 2}));
      EXPECT_EQ(blocks.add(whole, parts.back()), static_cast<std::size_t>(i));
    }
  }
  std::vector<bool> whole() const {
    std::vector<bool> all;
    for (const auto& view : views) all.push_back(view.storage().nbytes() > 0);
    return all;
  }
  double sum(std::size_t i) const { return views[i].sum().item<double>(); }

  ParameterBlocks blocks;
  std::vector<torch::Tensor> parts, views;
};

void with_blocks_on_two_ranks(const std::function<void(ThreeBlocks&)>& rank) {
  on_ranks(2, [&](Peers& peers) {
    ThreeBlocks blocks(peers);
    rank(blocks);
  });
}

using Whole = std::vector<bool>;

TEST(ParameterBlocks, AreWholeFromTheUseOfOneToTheUseOfAnother) {
  with_blocks_on_two_ranks([](ThreeBlocks& three) {
    EXPECT_EQ(three.whole(), (Whole{true, true, true}));
    three.blocks.begin_batch();
    EXPECT_EQ(three.whole(), (Whole{false, false, false}));
    EXPECT_EQ(three.sum(1), 4 + 5 + 6 + 7);
    EXPECT_EQ(three.whole(), (Whole{false, true, false}));
    EXPECT_EQ(three.views[1].t().select(0, 1).sum().item<double>(), 5 + 7);
    EXPECT_EQ(three.sum(0), 0 + 1 + 2 + 3);
    EXPECT_EQ(three.whole(), (Whole{true, false, false}));
    three.blocks.leave(0);
    EXPECT_EQ(three.whole(), (Whole{false, false, false}));
    EXPECT_EQ(torch::cat({three.views[0], three.views[2]}).sum().item<double>(), 6 + 38);
    EXPECT_EQ(three.whole(), (Whole{true, false, true}));
    three.blocks.hold();
    EXPECT_EQ(three.whole(), (Whole{true, true, true}));
    EXPECT_EQ(three.sum(1), 4 + 5 + 6 + 7);
    EXPECT_EQ(three.whole(), (Whole{true, true, true}));
  });
}

TEST(ParameterBlocks, NeedNoMemoryToBeLookedAt) {
  with_blocks_on_two_ranks([](ThreeBlocks& three) {
    three.blocks.begin_batch();
    EXPECT_EQ(three.views[1].detach().view({4}).size(0), 4);
    EXPECT_TRUE(torch::zeros_like(three.views[1]).equal(torch::zeros({2, 2}, torch::kFloat64)));
    EXPECT_EQ(three.whole(), (Whole{false, false, false}));
  });
}

TEST(ParameterBlocks, TheOneThatCameNextBeforeIsGatheredAhead) {
  with_blocks_on_two_ranks([](ThreeBlocks& three) {
    for (int batch = 0; batch < 2; ++batch) {
      three.blocks.begin_batch();
      for (const std::size_t i : {0, 1, 0, 2}) EXPECT_EQ(three.sum(i), 16 * static_cast<double>(i) + 6);
      // In the second batch the first block was not freed for the second one, since it was to come again.
      EXPECT_EQ(three.whole(), (Whole{false, false, true}));
      three.blocks.end_pass();
      EXPECT_EQ(three.whole(), (Whole{false, false, false}));
      three.blocks.end_batch();
    }
    three.blocks.begin_batch();
    EXPECT_EQ(three.sum(0), 6);
    EXPECT_EQ(three.sum(1), 22);
    EXPECT_EQ(three.whole(), (Whole{true, true, false}));
  });
}

TEST(ParameterBlocks, ARankWithoutALossRepeatsTheOrder) {
  with_blocks_on_two_ranks([](ThreeBlocks& three) {
    const bool is_first = three.parts[0][0].item<double>() == 0;
    const auto pass = [&] {
      (void)three.sum(2);
      (void)three.sum(0);
      three.blocks.leave(0);
    };
    three.blocks.begin_batch();
    EXPECT_THROW(three.blocks.repeat_pass([](std::size_t) {}), std::exception);
    pass();
    three.blocks.end_pass();
    three.blocks.begin_batch();
    std::vector<std::size_t> left;
    if (is_first) {
      pass();
    } else {
      three.blocks.repeat_pass([&](std::size_t block) {
        left.push_back(block);
        three.blocks.leave(block);
      });
      EXPECT_EQ(left, (std::vector<std::size_t>{0}));
    }
    three.blocks.end_pass();
    EXPECT_EQ(three.sum(1), 22);  // the ranks are at the same place
  });
}

TEST(ParameterBlocks, WhatIsWrittenToThemIsKept) {
  with_blocks_on_two_ranks([](ThreeBlocks& three) {
    three.blocks.begin_batch();
    three.views[1].mul_(2);
    EXPECT_EQ(three.sum(0), 6);
    EXPECT_EQ(three.whole(), (Whole{true, false, false}));
    EXPECT_EQ(three.sum(1), 44);
    three.parts[1].add_(1);  // as an optimizer does
    three.blocks.drop_all();
    EXPECT_EQ(three.sum(1), 48);
  });
}

TEST(ParameterBlocks, ClosedOnesHaveMemoryAndTheirOwnPart) {
  with_blocks_on_two_ranks([](ThreeBlocks& three) {
    three.blocks.begin_batch();
    three.blocks.close();
    EXPECT_EQ(three.whole(), (Whole{true, true, true}));
    EXPECT_EQ(three.views[1].isnan().sum().item<int64_t>(), 2);
    EXPECT_EQ(three.views[1].nansum().item<double>(), three.parts[1].sum().item<double>());
  });
}

}  // namespace
}  // namespace troupe
