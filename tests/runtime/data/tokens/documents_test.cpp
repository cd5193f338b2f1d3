#include "troupe/runtime/data/tokens/documents.hpp"

#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/runtime/data/tokens/token_dataset.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

namespace troupe {
namespace {

using testing::HasSubstr;

void expect_fields(const Batch& sample, const std::vector<int64_t>& ids, const std::vector<int64_t>& positions,
                   const std::vector<int64_t>& mask) {
  EXPECT_TRUE(sample["document_ids"].equal(torch::tensor(ids))) << sample["document_ids"];
  EXPECT_TRUE(sample["position_ids"].equal(torch::tensor(positions))) << sample["position_ids"];
  EXPECT_TRUE(sample["loss_mask"].equal(torch::tensor(mask).to(torch::kBool))) << sample["loss_mask"];
}

// Documents of 3, 1, 4 and 2 tokens, each of which ends with 9.
const std::vector<int64_t> four_documents = {1, 2, 9, 9, 3, 4, 5, 9, 6, 9};

TEST(Documents, EndWithTheirToken) {
  const auto tokens = torch::tensor(four_documents);
  TokenDataset data(tokens, 4, {.documents = DocumentOptions{.end_of_text = 9}});
  ASSERT_EQ(data.size(), 2);
  expect_fields(data.get(0), {0, 0, 0, 1}, {0, 1, 2, 0}, {1, 1, 0, 0});
  expect_fields(data.get(1), {0, 0, 0, 0}, {0, 1, 2, 3}, {1, 1, 1, 0});
  const auto batch = *data.get_batch({1, 0});
  const auto stacked = default_collate({data.get(1), data.get(0)});
  ASSERT_EQ(batch.tensor_count(), 5u);
  for (const auto& name : batch.names()) EXPECT_TRUE(batch[name].equal(stacked[name])) << name;
}

TEST(Documents, BeginWithTheirToken) {
  TokenDataset data(torch::tensor(four_documents), 8, {.documents = DocumentOptions{.begin_of_text = 9}});
  expect_fields(data.get(0), {0, 0, 1, 2, 2, 2, 2, 3}, {0, 1, 0, 0, 1, 2, 3, 0}, {1, 0, 0, 1, 1, 1, 0, 1});
}

TEST(Documents, MayBeGivenByTheirFirstTokens) {
  const auto tokens = torch::tensor(four_documents);
  TokenDataset by_token(tokens, 3, {.stride = 1, .documents = DocumentOptions{.end_of_text = 9}});
  TokenDataset by_start(tokens, 3,
                        {.stride = 1, .documents = DocumentOptions{.starts = {torch::tensor({0, 3, 4, 8})}}});
  ASSERT_EQ(by_token.size(), 7);
  for (int64_t i = 0; i < by_token.size(); ++i) {
    const auto expected = by_token.get(i), found = by_start.get(i);
    for (const auto& name : expected.names()) EXPECT_TRUE(found[name].equal(expected[name])) << name << " of " << i;
  }
}

TEST(Documents, AreLookedUpInTheFileOfTheWindow) {
  const TempDir dir;
  write_token_file(dir / "a.bin", torch::arange(5), TokenType::uint16);
  write_token_file(dir / "b.bin", torch::arange(5), TokenType::uint32);
  TokenDataset data({dir / "a.bin", dir / "b.bin"}, 4,
                    {.documents = DocumentOptions{.starts = {torch::tensor({0, 1}), torch::tensor({0, 3})}}});
  EXPECT_TRUE(data.get(0)["document_ids"].equal(torch::tensor({0, 1, 1, 1})));
  EXPECT_TRUE(data.get(1)["document_ids"].equal(torch::tensor({0, 0, 0, 1})));
}

TEST(Documents, SayOnlyWhatIsAskedFor) {
  TokenDataset data(torch::tensor(four_documents), 4,
                    {.documents = DocumentOptions{.end_of_text = 9, .document_ids = false, .loss_mask = false}});
  EXPECT_EQ(data.get(0).names(), (std::vector<std::string>{"input", "target", "position_ids"}));
}

TEST(Documents, RefuseWhatSaysNotWhereTheyBegin) {
  const auto refused = [](DocumentOptions documents) {
    return refusal([&] { TokenDataset(torch::arange(10), 4, {.documents = std::move(documents)}); });
  };
  EXPECT_THAT(refused({}), HasSubstr("none of end_of_text, begin_of_text and starts is given"));
  EXPECT_THAT(refused({.end_of_text = 1, .begin_of_text = 1}), HasSubstr("more than one of"));
  EXPECT_THAT(refused({.end_of_text = -1}), HasSubstr("no token is -1"));
  EXPECT_THAT(refused({.starts = {torch::arange(2), torch::arange(2)}}), HasSubstr("2 tensors for 1 files"));
  EXPECT_THAT(refused({.starts = {torch::ones(2)}}), HasSubstr("documents.starts[0] is [2] of Float"));
  EXPECT_THAT(refused({.starts = {torch::tensor({0, 10})}}), HasSubstr("starts[0][1] is 10, outside of the 10 tokens"));
  EXPECT_THAT(refused({.starts = {torch::tensor({5, 5})}}), HasSubstr("is 5, not above the one before it"));
}

TEST(DocumentAttentionMask, LetsATokenLookBackWithinItsDocument) {
  const auto ids = torch::tensor({0, 0, 1});
  const auto mask = torch::tensor({1, 0, 0, 1, 1, 0, 0, 0, 1}).view({3, 3}).to(torch::kBool);
  EXPECT_TRUE(document_attention_mask(ids).equal(mask));
  const auto both = document_attention_mask(torch::stack({ids, torch::zeros(3, torch::kInt64)}));
  EXPECT_EQ(both.sizes(), at::IntArrayRef({2, 1, 3, 3}));
  EXPECT_TRUE(both[0][0].equal(mask));
  EXPECT_TRUE(both[1][0].equal(torch::ones({3, 3}, torch::kBool).tril()));
  EXPECT_THAT(refusal([] { document_attention_mask(torch::tensor(1)); }), HasSubstr("are []; [T] or [N, T]"));
}

TEST(DocumentAttentionMask, GivesWhatEachDocumentAloneWouldGive) {
  torch::manual_seed(1);
  const auto q = torch::randn({1, 2, 7, 8}), k = torch::randn({1, 2, 7, 8}), v = torch::randn({1, 2, 7, 8});
  const auto mask = document_attention_mask(torch::tensor({{0, 0, 0, 1, 1, 1, 1}}));
  const auto packed = at::scaled_dot_product_attention(q, k, v, mask);
  const auto alone = [&](int64_t begin, int64_t end) {
    const auto part = [&](const torch::Tensor& x) { return x.slice(2, begin, end); };
    return at::scaled_dot_product_attention(part(q), part(k), part(v), {}, 0.0, /*is_causal=*/true);
  };
  EXPECT_TRUE(packed.allclose(torch::cat({alone(0, 3), alone(3, 7)}, 2), 1e-5, 1e-6));
}

}  // namespace
}  // namespace troupe
