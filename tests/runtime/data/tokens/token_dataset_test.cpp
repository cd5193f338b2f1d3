#include "troupe/runtime/data/tokens/token_dataset.hpp"

#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/modules/data/data_loader.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace troupe {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

TEST(TokenDataset, TheTargetIsTheInputOneTokenFurther) {
  TokenDataset data(torch::arange(10, torch::kUInt8), 3);
  EXPECT_EQ(data.size(), 3);
  const auto sample = data.get(1);
  EXPECT_TRUE(sample["input"].equal(torch::tensor({3, 4, 5}, torch::kInt64)));
  EXPECT_TRUE(sample["target"].equal(torch::tensor({4, 5, 6}, torch::kInt64)));
  EXPECT_TRUE(data.get(2)["target"].equal(torch::tensor({7, 8, 9}, torch::kInt64)));
}

TEST(TokenDataset, WindowsMayOverlap) {
  TokenDataset data(torch::arange(300, 306, torch::kInt32), 4, {.stride = 1});
  EXPECT_EQ(data.size(), 2);
  EXPECT_TRUE(data.get(1)["input"].equal(torch::tensor({301, 302, 303, 304}, torch::kInt64)));
}

TEST(TokenDataset, AWholeBatchIsItsSamplesStacked) {
  TokenDataset data(torch::arange(100, torch::kUInt8), 7, {.stride = 2});
  const auto batch = *data.get_batch({5, 0, 11});
  const auto stacked = default_collate({data.get(5), data.get(0), data.get(11)});
  for (const char* name : {"input", "target"}) {
    EXPECT_TRUE(batch[name].equal(stacked[name])) << name;
    EXPECT_TRUE(batch[name].is_contiguous()) << name;
  }
}

TEST(TokenDataset, TokensMayBeWholeNumbersOfAnyType) {
  const auto numbers = torch::arange(100, torch::kInt64);
  for (const auto type : {torch::kUInt8, torch::kInt8, torch::kInt16, torch::kUInt16, torch::kInt32, torch::kUInt32,
                          torch::kInt64, torch::kUInt64}) {
    TokenDataset data(numbers.to(type), 40, {.stride = 59, .vocabulary = 100});
    EXPECT_TRUE(data.get(1)["input"].equal(numbers.slice(0, 59, 99))) << c10::toString(type);
    EXPECT_TRUE(data.get(1)["target"].equal(numbers.slice(0, 60))) << c10::toString(type);
  }
  TokenDataset reversed(numbers.view({2, 50}).t().flatten().slice(0, 0, 100, 2), 3);
  EXPECT_TRUE(reversed.get(0)["input"].equal(torch::arange(3))) << "strided";
}

TEST(TokenDataset, RefusesWhatMakesNoWindow) {
  const auto tokens = torch::arange(8);
  EXPECT_EQ(refusal([&] { TokenDataset(tokens, 8); }),
            "TokenDataset: 8 tokens are too few for windows of 8 and the one that follows; use a length below 8");
  EXPECT_EQ(refusal([&] { TokenDataset(tokens, 7); }), "accepted");
  EXPECT_THAT(refusal([&] { TokenDataset(tokens, 0); }), HasSubstr("length = 0"));
  EXPECT_THAT(refusal([&] { TokenDataset(tokens, 3, {.stride = -1}); }), HasSubstr("stride = -1"));
  EXPECT_THAT(refusal([&] { TokenDataset(tokens, 3, {.vocabulary = -1}); }), HasSubstr("vocabulary = -1"));
  EXPECT_THAT(refusal([&] { TokenDataset(tokens.to(torch::kFloat), 3); }), HasSubstr("[8] of Float"));
  EXPECT_THAT(refusal([&] { TokenDataset(tokens.view({2, 4}), 3); }), HasSubstr("[2, 4] of Long"));
  EXPECT_THAT(refusal([&] { TokenDataset(torch::Tensor(), 3); }), HasSubstr("undefined"));
  EXPECT_THAT(refusal([&] { TokenDataset(std::vector<fs::path>{}, 3); }), HasSubstr("no file of tokens"));
  TokenDataset data(tokens, 3);
  EXPECT_EQ(refusal([&] { data.get(2); }), "window 2 is not one of the 2");
  EXPECT_THAT(refusal([&] { data.get_batch({0, -1}); }), HasSubstr("window -1"));
}

TEST(TokenDataset, WindowsOfSeveralFilesDoNotCrossFromOneIntoTheNext) {
  const TempDir dir;
  write_token_file(dir / "a.bin", torch::arange(0, 11), TokenType::uint16);
  write_token_file(dir / "short.bin", torch::arange(50, 53), TokenType::uint16);
  write_token_file(dir / "b.bin", torch::arange(100000, 100007), TokenType::uint32);
  TokenDataset data({dir / "a.bin", dir / "short.bin", dir / "b.bin"}, 3);
  EXPECT_EQ(data.size(), 3 + 0 + 2);
  EXPECT_EQ(data.token_count(), 21);
  const auto batch = *data.get_batch({4, 2, 3});
  EXPECT_TRUE(batch["input"].equal(torch::tensor({{100003, 100004, 100005}, {6, 7, 8}, {100000, 100001, 100002}})));
  EXPECT_TRUE(batch["target"].equal(batch["input"] + 1));
  EXPECT_EQ(refusal([&] {
              TokenDataset({dir / "short.bin", dir / "b.bin"}, 7);
            }),
            (dir / "b.bin").string() +
                ": 7 tokens are too few for windows of 7 and the one that follows; use a length below 7");
}

TEST(TokenDataset, ATokenBeyondTheVocabularyIsNamed) {
  const TempDir dir;
  write_token_file(dir / "a.bin", torch::arange(0, 10), TokenType::uint16);
  write_token_file(dir / "b.bin", torch::arange(0, 10) + 5 * (torch::arange(10) == 7), TokenType::uint16);
  TokenDataset data({dir / "a.bin", dir / "b.bin"}, 4, {.vocabulary = 12});
  EXPECT_EQ(refusal([&] { data.get_batch({0, 1, 2}); }), "accepted");
  EXPECT_EQ(refusal([&] {
              data.get_batch({0, 3});
            }),
            (dir / "b.bin").string() + ": token 7 (byte 1038) is 12, outside of the vocabulary of 12 (0 to 11)");
  EXPECT_EQ(refusal([&] {
              TokenDataset(torch::tensor({1, -2, 3}), 2, {.vocabulary = 12}).get(0);
            }),
            "token 1 is -2, outside of the vocabulary of 12 (0 to 11)");
  EXPECT_EQ(refusal([&] {
              TokenDataset(torch::tensor({1, 3, 12}, torch::kUInt8), 2, {.vocabulary = 12}).get(0);
            }),
            "token 2 is 12, outside of the vocabulary of 12 (0 to 11)");
  EXPECT_EQ(TokenDataset(torch::tensor({-1, -2, -3}, torch::kInt8), 2).get(0)["target"][1].item<int64_t>(), -3);
}

TEST(TokenDataset, TenBillionWindowsTakeNoMoreMemoryThanOne) {
  const TempDir dir;
  constexpr int64_t tokens = int64_t{5} * 1000 * 1000 * 1000 + 4;
  for (const char* name : {"a.bin", "b.bin"}) {
    std::ofstream(dir / name, std::ios::binary) << "";
    std::error_code error;
    fs::resize_file(dir / name, tokens * 2, error);  // a hole
    if (error) GTEST_SKIP() << "the file system has no files of 10 GB with holes: " << error.message();
    std::fstream file(dir / name, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp((tokens - 3) * 2);
    file.write("\1\0\2\0\3\0", 6);
  }
  TokenDataset data({dir / "a.bin", dir / "b.bin"}, 4, {.stride = 1, .type = TokenType::uint16});
  EXPECT_EQ(data.size(), int64_t{10} * 1000 * 1000 * 1000);
  const auto batch = *data.get_batch({data.size() - 1, data.size() / 2 - 1, data.size() / 2});
  EXPECT_TRUE(batch["input"].equal(torch::tensor({{0, 0, 1, 2}, {0, 0, 1, 2}, {0, 0, 0, 0}})));
  EXPECT_TRUE(batch["target"].equal(torch::tensor({{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 0, 0, 0}})));
}

}  // namespace
}  // namespace troupe
