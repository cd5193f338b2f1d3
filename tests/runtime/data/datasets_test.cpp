#include "troupe/base/failure.hpp"
#include "troupe/modules/data/data_loader.hpp"
#include "troupe/runtime/data/libtorch_dataset.hpp"
#include "troupe/runtime/data/subset.hpp"
#include "troupe/runtime/data/tensor_dataset.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>
#include <stdexcept>

namespace troupe {
namespace {

namespace td = torch::data;

TEST(Dataset, MemoryOfABatchThatNothingWritesToIsRefused) {
  struct MemoryAlone : Dataset {
    int64_t size() const override { return 4; }
    Batch get(int64_t) override { return {torch::zeros({2})}; }
    std::optional<Batch> batch_memory(int64_t samples) override { return Batch{torch::empty({samples, 2})}; }
  };
  MemoryAlone data;
  auto memory = *data.batch_memory(1);
  EXPECT_THROW(data.get_into(0, memory, 0), std::logic_error);
}

TEST(TensorDataset, ServesRowsAndWholeBatchesOfThem) {
  const auto x = torch::arange(12, torch::kFloat).view({4, 3});
  TensorDataset data(x, torch::arange(4));
  EXPECT_EQ(data.size(), 4);
  EXPECT_TRUE(data.get(2)[0].equal(x[2]));
  const auto batch = *data.get_batch({3, 1});
  EXPECT_TRUE(batch[0].equal(torch::stack({x[3], x[1]})));
  EXPECT_TRUE(batch[1].equal(torch::tensor({3, 1}, torch::kInt64)));
  EXPECT_TRUE(default_collate({data.get(3), data.get(1)})[0].equal(batch[0]));
  batch[0].zero_();
  EXPECT_EQ(x.sum().item<float>(), 66) << "a batch shares the dataset's memory";
}

TEST(TensorDataset, CopiesRowsOfAnyTypeAndLayout) {
  const auto x = torch::rand({7, 5, 3}) * 100;
  const std::vector<int64_t> indices{6, 0, 0, 3};
  for (const auto& tensor :
       {x, x.to(torch::kBFloat16), x.to(torch::kByte), x > 50, x.to(torch::kComplexFloat), x.transpose(1, 2),
        x.slice(0, 0, 7, 1).slice(2, 1, 2), torch::zeros({7, 0, 3}), torch::arange(7),
        torch::conj(x.to(torch::kComplexFloat)), torch::_efficientzerotensor({7, 2})}) {
    const auto batch = TensorDataset(tensor).get_batch(indices);
    EXPECT_TRUE((*batch)[0].equal(tensor.index_select(0, torch::tensor(indices)))) << tensor.sizes();
    EXPECT_EQ((*batch)[0].scalar_type(), tensor.scalar_type());
  }
  EXPECT_EQ((*TensorDataset(x).get_batch({}))[0].sizes(), (std::vector<int64_t>{0, 5, 3}));
  EXPECT_EQ(refusal([&] {
              TensorDataset(x).get_batch({2, 7});
            }),
            "TensorDataset: index 7 is not in a dataset of 7 samples");
  EXPECT_EQ(refusal([&] { TensorDataset(x).get_batch({-1}); }),
            "TensorDataset: index -1 is not in a dataset of 7 samples");
  const auto weights = torch::rand({7, 2}).requires_grad_();
  EXPECT_TRUE((*TensorDataset(weights).get_batch(indices))[0].requires_grad()) << "what is trained stays so";
}

TEST(TensorDataset, KeepsNames) {
  TensorDataset data(Batch{{"image", torch::zeros({2, 3})}, {"label", torch::zeros({2})}});
  EXPECT_EQ(data.get(0)["image"].sizes(), (std::vector<int64_t>{3}));
  EXPECT_EQ((*data.get_batch({0, 1, 0}))["label"].size(0), 3);
}

TEST(TensorDataset, RefusesTensorsThatDoNotFitAndNamesTheirSizes) {
  EXPECT_EQ(refusal([] {
              TensorDataset(torch::zeros({4, 2}), torch::zeros({5}));
            }),
            "TensorDataset: the tensors' first dimensions must agree, but are 4, 5");
  EXPECT_EQ(refusal([] { TensorDataset(torch::zeros({4}), torch::Tensor()); }), "TensorDataset: tensor 1 is undefined");
  EXPECT_THAT(refusal([] { TensorDataset(torch::tensor(1.0)); }), testing::HasSubstr("has no dimensions"));
  EXPECT_THAT(refusal([] { TensorDataset(Batch{}); }), testing::HasSubstr("at least one tensor"));
}

TEST(Subset, RandomSplitSharesTheSamplesByASeed) {
  const auto data = std::make_shared<TensorDataset>(torch::arange(10));
  const auto parts = random_split(data, {6, 4}, 1);
  std::set<int64_t> seen;
  for (const auto& part : parts) seen.insert(part->indices().begin(), part->indices().end());
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(random_split(data, {6, 4}, 1)[0]->indices(), parts[0]->indices());
  EXPECT_NE(random_split(data, {6, 4}, 2)[0]->indices(), parts[0]->indices());
  EXPECT_EQ(parts[1]->get(3)[0].item<int64_t>(), parts[1]->indices()[3]);
  EXPECT_EQ((*parts[1]->get_batch({3}))[0].item<int64_t>(), parts[1]->indices()[3]);
  EXPECT_EQ(refusal([&] {
              random_split(data, {6, 5}, 1);
            }),
            "random_split: the lengths 6 + 5 must be at least 0 and add up to the dataset's size, 10");
  EXPECT_EQ(refusal([&] { Subset(data, {3, 10}); }), "Subset: index 10 is not in a dataset of 10 samples");
}

/// As the LibTorch documentation writes one.
class Squares : public td::datasets::Dataset<Squares> {
 public:
  td::Example<> get(std::size_t index) override {
    const auto value = static_cast<float>(index);
    return {torch::full({2}, value), torch::tensor(value * value)};
  }
  std::optional<std::size_t> size() const override { return 5; }
};

TEST(FromLibTorch, TakesADatasetOfExamples) {
  const auto data = from_libtorch(Squares());
  EXPECT_EQ(data->size(), 5);
  const auto [x, y] = data->get(3).get<2>();
  EXPECT_EQ(x.sum().item<float>(), 6);
  EXPECT_EQ(y.item<float>(), 9);
  EXPECT_EQ(data->get(3)["target"].item<float>(), 9);
  EXPECT_FALSE(data->get_batch({1, 2}));
  EXPECT_NE(data->replicate(), nullptr);
}

TEST(FromLibTorch, TakesMappedAndStackedDatasets) {
  const auto mapped = from_libtorch(Squares().map(td::transforms::Normalize<>(1.0, 2.0)));
  EXPECT_TRUE(mapped->get(3)[0].flatten().equal(torch::ones({2})));
  const auto stacked = from_libtorch(Squares().map(td::transforms::Stack<>()));
  const auto batch = *stacked->get_batch({4, 2});
  EXPECT_EQ(batch["data"].sizes(), (std::vector<int64_t>{2, 2}));
  EXPECT_TRUE(batch["target"].equal(torch::tensor({16.0F, 4.0F})));
  EXPECT_EQ(stacked->get(4)["data"].sizes(), (std::vector<int64_t>{2}));
}

TEST(FromLibTorch, TakesExamplesWithoutATarget) {
  const auto data = from_libtorch(td::datasets::TensorDataset(torch::arange(3)));
  EXPECT_EQ(data->size(), 3);
  EXPECT_EQ(data->get(2).tensor_count(), 1u);
  EXPECT_EQ(data->get(2)["data"].item<int64_t>(), 2);
}

}  // namespace
}  // namespace troupe
