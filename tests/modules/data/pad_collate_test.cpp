#include "troupe/modules/data/pad_collate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

namespace troupe {
namespace {

using testing::HasSubstr;

std::vector<torch::Tensor> ragged(int64_t width, torch::ScalarType type) {
  std::vector<torch::Tensor> out;
  for (const int64_t length : {3, 7, 0, 5}) out.push_back((torch::rand({length, width}) * 100).to(type));
  return out;
}

std::vector<Batch> named_samples(const std::vector<torch::Tensor>& tensors) {
  std::vector<Batch> out;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    out.push_back(Batch{{"label", torch::tensor(static_cast<int64_t>(i))}, {"tokens", tensors[i]}});
  }
  return out;
}

TEST(PadCollate, GivesThePaddedValuesOfPyTorch) {
  for (const auto type : {torch::kFloat, torch::kLong, torch::kByte, torch::kBFloat16}) {
    const auto tensors = ragged(2, type);
    for (const auto side : {PadSide::right, PadSide::left}) {
      const PadCollate pad{{.tensor = "tokens", .value = 7, .side = side}};
      const auto batch = pad(named_samples(tensors));
      const auto expected = at::pad_sequence(tensors, true, 7, side == PadSide::right ? "right" : "left");
      EXPECT_TRUE(batch["tokens"].equal(expected)) << type;
      EXPECT_EQ(batch["tokens"].scalar_type(), type);
      EXPECT_TRUE(batch["label"].equal(torch::arange(4)));
      EXPECT_EQ(batch.names(), (std::vector<std::string>{"label", "tokens"}));
    }
  }
}

TEST(PadCollate, SaysWhatIsPadding) {
  const PadCollate pad{
      {.tensor = "tokens", .multiple_of = 4, .side = PadSide::left, .lengths = "lengths", .mask = "mask"}};
  const auto tensors = ragged(1, torch::kFloat);
  const auto batch = pad(named_samples(tensors));
  EXPECT_EQ(batch["tokens"].sizes(), (std::vector<int64_t>{4, 8, 1}));
  EXPECT_TRUE(batch["lengths"].equal(torch::tensor({3, 7, 0, 5})));
  EXPECT_EQ(batch["mask"].scalar_type(), torch::kBool);
  EXPECT_TRUE(batch["mask"].sum(1).equal(batch["lengths"]));
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(batch["tokens"][i].index({batch["mask"][i]}).equal(tensors[static_cast<std::size_t>(i)]));
  }
  const auto right = PadCollate{{.tensor = "tokens", .mask = "mask"}}(named_samples(tensors));
  EXPECT_TRUE(right["mask"][0].equal(torch::tensor({1, 1, 1, 0, 0, 0, 0}).to(torch::kBool)));
}

TEST(PadCollate, PadsAnyDimensionOfSeveralTensors) {
  std::vector<Batch> samples;
  for (const int64_t length : {2, 5}) {
    samples.push_back(Batch{{"sound", torch::ones({3, length})}, {"text", torch::ones({length + 1}, torch::kLong)}});
  }
  const auto batch = PadCollate{{.tensor = "sound", .dim = -1}, {.tensor = "text", .value = -100}}(samples);
  EXPECT_EQ(batch["sound"].sizes(), (std::vector<int64_t>{2, 3, 5}));
  EXPECT_EQ(batch["sound"][0].sum().item<double>(), 6);
  EXPECT_TRUE(batch["text"][0].equal(torch::tensor({1, 1, 1, -100, -100, -100})));
}

std::string pad_refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const CollateError& error) {
    return "[" + std::to_string(error.position()) + "] " + error.reason();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(PadCollate, NamesTheSampleThatDoesNotFit) {
  const PadCollate pad{{.tensor = "tokens"}};
  const auto refused = [&](torch::Tensor odd) {
    return pad_refusal([&] { pad(named_samples({torch::zeros({2, 3}), std::move(odd)})); });
  };
  EXPECT_EQ(refused(torch::zeros({2, 4})),
            "[1] PadCollate: its tensor 'tokens' is Float [2, 4], the batch's first sample's is Float [2, 3]; only "
            "dimension 0 may differ");
  EXPECT_THAT(refused(torch::zeros({2, 3}, torch::kLong)), HasSubstr("is Long [2, 3]"));
  EXPECT_EQ(refused(torch::Tensor()), "[1] PadCollate: its tensor 'tokens' is undefined");
  EXPECT_EQ(pad_refusal([&] {
              pad({Batch{{"text", torch::zeros({2})}}});
            }),
            "[0] PadCollate: it has no tensor 'tokens'");
}

TEST(PadCollate, RefusesOptionsThatCannotBe) {
  const auto samples = named_samples({torch::zeros({2}, torch::kByte)});
  const auto refused = [&](std::vector<PadOptions> padded) {
    return pad_refusal([&] { PadCollate(std::move(padded))(samples); });
  };
  EXPECT_THAT(refused({}), HasSubstr("at least one tensor"));
  EXPECT_THAT(refused({{.tensor = ""}}), HasSubstr("one is empty"));
  EXPECT_THAT(refused({{.tensor = "tokens"}, {.tensor = "tokens"}}), HasSubstr("the name 'tokens' comes twice"));
  EXPECT_THAT(refused({{.tensor = "tokens", .lengths = "n", .mask = "n"}}), HasSubstr("the name 'n' comes twice"));
  EXPECT_THAT(refused({{.tensor = "tokens", .multiple_of = 0}}), HasSubstr("multiple_of = 0"));
  EXPECT_THAT(refused({{.tensor = "tokens", .dim = 1}}), HasSubstr("Byte [2], which has no dimension 1"));
  EXPECT_THAT(refused({{.tensor = "tokens", .value = -1}}), HasSubstr("cannot hold the padding value -1"));
  EXPECT_THAT(refused({{.tensor = "tokens", .value = 0.5}}), HasSubstr("cannot hold the padding value 0.5"));
  EXPECT_THAT(refused({{.tensor = "tokens", .mask = "label"}}), HasSubstr("the samples have one of this name already"));
  EXPECT_THAT(pad_refusal([] { PadCollate{{.tensor = "tokens"}}({}); }), HasSubstr("at least one sample"));
}

}  // namespace
}  // namespace troupe
