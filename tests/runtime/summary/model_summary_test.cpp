#include "troupe/runtime/summary/model_summary.hpp"

#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <stdexcept>

namespace troupe {
namespace {

namespace nn = torch::nn;

std::vector<std::string> cells(const ModuleSummary& summary, std::string LayerRow::*member) {
  std::vector<std::string> out;
  for (const auto& row : summary.rows) out.push_back(row.*member);
  return out;
}

struct Mlp : nn::Module {
  Mlp() {
    register_module("l1", l1);
    register_module("act", act);
    register_module("l2", l2);
  }
  torch::Tensor forward(const torch::Tensor& x) { return l2(act(l1(x))); }
  nn::Linear l1{784, 128};
  nn::ReLU act;
  nn::Linear l2{128, 10};
};

TEST(ModelSummary, PrintsTheTableThatLightningPrints) {
  Mlp model;
  auto summary = summarize(model, [&] { model.forward(torch::zeros({32, 784})); });
  EXPECT_EQ(to_text(summary),
            "  | Name | Type   | Params | Mode  | In sizes  | Out sizes\n"
            "----------------------------------------------------------\n"
            "0 | l1   | Linear | 100 K  | train | [32, 784] | [32, 128]\n"
            "1 | act  | ReLU   | 0      | train | ?         | ?\n"
            "2 | l2   | Linear | 1.2 K  | train | [32, 128] | [32, 10]\n"
            "----------------------------------------------------------\n"
            "101 K     Trainable params\n"
            "0         Non-trainable params\n"
            "101 K     Total params\n"
            "0.407     Total estimated model params size (MB)\n"
            "3         Modules in train mode\n"
            "0         Modules in eval mode\n");
}

TEST(ModelSummary, LeavesOutShapesWithoutAnExample) {
  Mlp model;
  auto text = to_text(summarize(model));
  EXPECT_EQ(text.find("In sizes"), std::string::npos);
  EXPECT_NE(text.find("0 | l1   | Linear | 100 K  | train\n"), std::string::npos) << text;
}

TEST(ModelSummary, GivesAContainerItsFirstInputAndItsLastOutput) {
  struct Net : nn::Module {
    nn::Sequential body{nn::Conv2d(1, 4, 3), nn::BatchNorm2d(4), nn::ReLU(), nn::Flatten(), nn::Linear(4 * 6 * 6, 5)};
    Net() { register_module("body", body); }
  } net;
  auto run = [&] { net.body->forward(torch::zeros({2, 1, 8, 8})); };
  auto summary = summarize(net, run);
  ASSERT_EQ(summary.rows.size(), 1u);
  EXPECT_EQ(summary.rows[0].type, "Sequential");
  EXPECT_EQ(summary.rows[0].in, (Shape{2, 1, 8, 8}));
  EXPECT_EQ(summary.rows[0].out, (Shape{2, 5}));

  auto deep = summarize(net, run, -1);
  EXPECT_EQ(cells(deep, &LayerRow::name),
            (std::vector<std::string>{"body", "body.0", "body.1", "body.2", "body.3", "body.4"}));
  EXPECT_EQ(deep.rows[2].out, (Shape{2, 4, 6, 6}));
  EXPECT_EQ(deep.rows[3].in, std::nullopt);
  EXPECT_EQ(deep.rows[5].in, (Shape{2, 144}));
}

TEST(ModelSummary, SeesEmbeddingsRecurrentLayersAndAttention) {
  struct Net : nn::Module {
    nn::Embedding embedding{50, 8};
    nn::LSTM lstm{nn::LSTMOptions(8, 6).num_layers(2).batch_first(true)};
    nn::MultiheadAttention attention{6, 2};
    nn::LayerNorm norm{nn::LayerNormOptions({6})};
    Net() {
      register_module("embedding", embedding);
      register_module("lstm", lstm);
      register_module("attention", attention);
      register_module("norm", norm);
    }
  } net;
  auto summary = summarize(net, [&] {
    auto x = std::get<0>(net.lstm->forward(net.embedding(torch::zeros({3, 7}, torch::kLong))));
    net.norm(std::get<0>(net.attention->forward(x, x, x)));
  });
  EXPECT_EQ(summary.rows[0].in, (Shape{3, 7}));
  EXPECT_EQ(summary.rows[0].out, (Shape{3, 7, 8}));
  EXPECT_EQ(summary.rows[1].in, (Shape{3, 7, 8}));
  EXPECT_EQ(summary.rows[1].out, (Shape{3, 7, 6}));
  EXPECT_TRUE(summary.rows[2].in.has_value());
  EXPECT_EQ(summary.rows[3].out, (Shape{3, 7, 6}));
}

TEST(ModelSummary, KeepsTheFirstShapesOfALayerThatIsCalledAgain) {
  struct Net : nn::Module {
    nn::Conv2d conv{1, 1, 3};
    Net() { register_module("conv", conv); }
  } net;
  auto summary = summarize(net, [&] { net.conv(net.conv(torch::zeros({1, 1, 9, 9}))); });
  EXPECT_EQ(summary.rows[0].in, (Shape{1, 1, 9, 9}));
  EXPECT_EQ(summary.rows[0].out, (Shape{1, 1, 7, 7}));
}

struct Tied : nn::Module {
  Tied() {
    register_module("embedding", embedding);
    register_module("decoder", decoder);
    decoder->weight = embedding->weight;
    decoder->replace_weight();
  }
  struct DecoderImpl : nn::Module {
    torch::Tensor weight = register_parameter("weight", torch::zeros({50, 8}));
    void replace_weight() { parameters_["weight"] = weight; }
  };
  nn::Embedding embedding{50, 8};
  std::shared_ptr<DecoderImpl> decoder = std::make_shared<DecoderImpl>();
};

TEST(ModelSummary, CountsTiedParametersOnceAndSeesBothUsers) {
  Tied model;
  auto summary = summarize(model, [&] {
    auto x = model.embedding(torch::zeros({3, 7}, torch::kLong));
    torch::linear(x, model.decoder->weight);
  });
  EXPECT_EQ(summary.total_parameters, 400);
  EXPECT_EQ(summary.rows[1].parameters, 400);
  EXPECT_EQ(summary.rows[1].type, "Decoder");
  EXPECT_EQ(summary.rows[0].in, (Shape{3, 7}));
  EXPECT_EQ(summary.rows[1].in, (Shape{3, 7, 8}));
  EXPECT_EQ(summary.rows[1].out, (Shape{3, 7, 50}));
}

TEST(ModelSummary, CountsFrozenParametersAndThoseOfTheRootItself) {
  struct Net : Mlp {
    torch::Tensor scale = register_parameter("scale", torch::ones({5}));
  } net;
  for (auto& parameter : net.l1->parameters()) parameter.set_requires_grad(false);
  net.l1->eval();
  auto summary = summarize(net);
  EXPECT_EQ(summary.total_parameters, 784 * 128 + 128 + 128 * 10 + 10 + 5);
  EXPECT_EQ(summary.trainable_parameters, 128 * 10 + 10 + 5);
  EXPECT_EQ(summary.other_parameters, 5);
  EXPECT_EQ(summary.modules_in_eval_mode, 1);
  EXPECT_NE(to_text(summary).find("  | other params | n/a    | 5      | n/a\n"), std::string::npos) << to_text(summary);
}

TEST(ModelSummary, MeasuresParametersInTheirOwnType) {
  Mlp model;
  model.to(torch::kFloat64);
  EXPECT_EQ(summarize(model).bytes, 101770 * 8);
}

TEST(ModelSummary, RunsForwardInEvalModeWithoutGradientsAndPutsModesBack) {
  Mlp model;
  model.l2->eval();
  bool had_gradients = true, was_training = true;
  summarize(model, [&] {
    had_gradients = torch::GradMode::is_enabled();
    was_training = model.is_training() || model.l1->is_training();
  });
  EXPECT_FALSE(had_gradients);
  EXPECT_FALSE(was_training);
  EXPECT_TRUE(torch::GradMode::is_enabled());
  EXPECT_TRUE(model.is_training());
  EXPECT_TRUE(model.l1->is_training());
  EXPECT_FALSE(model.l2->is_training());
}

// Protocol rule P9: whether a summary is printed changes nothing.
TEST(ModelSummary, LeavesTheRandomGeneratorAsItWas) {
  Mlp model;
  torch::manual_seed(7);
  auto expected = torch::rand({4});
  torch::manual_seed(7);
  summarize(model, [] { torch::rand({100}); });
  EXPECT_TRUE(torch::rand({4}).equal(expected));
}

TEST(ModelSummary, GivesBuffersThatForwardChangesBackWhatTheyHeld) {
  struct Counting : nn::Module {
    torch::Tensor calls = register_buffer("calls", torch::zeros({1})),
                  unchanged = register_buffer("other", torch::ones(2));
    void forward() { calls.add_(1).resize_({2}).fill_(7); }
  } model;
  const auto version = model.unchanged._version();
  summarize(model, [&] { model.forward(); });
  EXPECT_TRUE(torch::equal(model.calls, torch::zeros({1})));
  EXPECT_EQ(model.unchanged._version(), version);
}

TEST(ModelSummary, PutsEverythingBackWhenForwardThrows) {
  Mlp model;
  EXPECT_ANY_THROW(summarize(model, [&] { model.forward(torch::zeros({32, 7})); }));
  EXPECT_TRUE(model.l1->is_training());
  EXPECT_TRUE(torch::GradMode::is_enabled());
  auto again = summarize(model, [&] { model.forward(torch::zeros({2, 784})); });
  EXPECT_EQ(again.rows[0].in, (Shape{2, 784}));
}

TEST(ModelSummary, TakesAModuleWithoutAnything) {
  struct Empty : nn::Module {
  } empty;
  EXPECT_EQ(to_text(summarize(empty, [] {})),
            "0         Trainable params\n"
            "0         Non-trainable params\n"
            "0         Total params\n"
            "0.000     Total estimated model params size (MB)\n"
            "0         Modules in train mode\n"
            "0         Modules in eval mode\n");
}

TEST(ModelSummary, TakesLayersWithoutBias) {
  struct Net : nn::Module {
    nn::Linear linear{nn::LinearOptions(4, 2).bias(false)};
    Net() { register_module("linear", linear); }
  } net;
  EXPECT_EQ(summarize(net).total_parameters, 8);
}

TEST(ModelSummary, RefusesADepthBelowAll) {
  Mlp model;
  EXPECT_THROW(summarize(model, nullptr, -2), UsageError);
  EXPECT_TRUE(summarize(model, nullptr, 0).rows.empty());
}

TEST(ModelSummary, ShortensCountsAsLightningDoes) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234), "1.2 K");
  EXPECT_EQ(human_count(101770), "101 K");
  EXPECT_EQ(human_count(999999), "999 K");
  EXPECT_EQ(human_count(25'600'000), "25.6 M");
  EXPECT_EQ(human_count(2'500'000'000), "2.5 B");
  EXPECT_EQ(human_count(4'000'000'000'000'000), "4000 T");
}

}  // namespace
}  // namespace troupe
