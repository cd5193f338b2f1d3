// Layers in 16 bits on a CPU: every one must run, whatever instructions the CPU has. oneDNN can be told to do without
// those beyond AVX2, so the tests run once as they are and once, in a process of their own, on a CPU like that.
#include "tests/support/lines.hpp"
#include "tests/support/program.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/precision/cpu_autocast.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace troupe {
namespace {

namespace nn = torch::nn;

using Layer = std::function<torch::Tensor(torch::Tensor)>;

// Layers, and how they are called.
struct Built : nn::Module {
  template <class L>
  L add(L layer) {
    register_module("layer" + std::to_string(children().size()), layer);
    return layer;
  }
  Layer call;
};

struct Case {
  std::vector<int64_t> input;
  std::function<Layer(Built&)> build;
};

template <class... L>
std::function<Layer(Built&)> in_turn(L... layers) {
  return [=](Built& built) -> Layer {
    auto all = built.add(nn::Sequential());
    (all->push_back(std::dynamic_pointer_cast<typename L::ContainedType>(layers->clone())), ...);
    return [all](torch::Tensor x) mutable { return all->forward(x); };
  };
}

template <class L>
std::function<Layer(Built&)> first_of(L layer) {
  return [=](Built& built) -> Layer {
    auto own = built.add(L(std::dynamic_pointer_cast<typename L::ContainedType>(layer->clone())));
    return [own](torch::Tensor x) mutable { return std::get<0>(own->forward(x)); };
  };
}

template <class L>
std::function<Layer(Built&)> behind_linear(L layer) {
  return [=](Built& built) -> Layer {
    auto linear = built.add(nn::Linear(8, 8));
    auto inner = first_of(layer)(built);
    return [=](torch::Tensor x) mutable { return inner(linear(x)); };
  };
}

// By name: those that oneDNN has a part in, and their neighbours.
std::map<std::string, Case> cases() {
  const std::vector<int64_t> line{2, 4, 9}, plane{2, 4, 9, 9}, space{2, 4, 9, 9, 9}, text{3, 5, 8}, rows{4, 8};
  std::map<std::string, Case> all;
  all["conv1d"] = {line, in_turn(nn::Conv1d(4, 8, 3), nn::BatchNorm1d(8), nn::MaxPool1d(2))};
  all["conv2d"] = {plane, in_turn(nn::Conv2d(4, 8, 3), nn::BatchNorm2d(8), nn::ReLU(), nn::MaxPool2d(2))};
  all["conv3d"] = {space, in_turn(nn::Conv3d(4, 8, 3), nn::BatchNorm3d(8), nn::MaxPool3d(2))};
  all["conv1d, grouped"] = {line, in_turn(nn::Conv1d(nn::Conv1dOptions(4, 8, 3).stride(2).groups(2).dilation(2)))};
  all["conv2d, grouped"] = {plane, in_turn(nn::Conv2d(nn::Conv2dOptions(4, 8, 3).stride(2).groups(4).dilation(2)))};
  all["conv3d, grouped"] = {space, in_turn(nn::Conv3d(nn::Conv3dOptions(4, 8, 3).stride(2).groups(2)))};
  all["transposed 1d"] = {line, in_turn(nn::ConvTranspose1d(4, 8, 3))};
  all["transposed 2d"] = {plane, in_turn(nn::ConvTranspose2d(nn::ConvTranspose2dOptions(4, 8, 3).stride(2).groups(2)))};
  all["transposed 3d"] = {space, in_turn(nn::ConvTranspose3d(4, 8, 3))};
  all["average pool"] = {plane, in_turn(nn::Conv2d(4, 8, 3), nn::AvgPool2d(2), nn::AdaptiveAvgPool2d(2))};
  all["group norm"] = {plane, in_turn(nn::Conv2d(4, 8, 3), nn::GroupNorm(2, 8), nn::SiLU())};
  all["instance norm"] = {plane, in_turn(nn::Conv2d(4, 8, 3), nn::InstanceNorm2d(8), nn::PReLU())};
  all["linear"] = {rows, in_turn(nn::Linear(8, 8), nn::GELU(), nn::Linear(8, 8), nn::Softmax(-1))};
  all["layer norm"] = {text, in_turn(nn::Linear(8, 8), nn::LayerNorm(nn::LayerNormOptions({8})), nn::LogSoftmax(-1))};
  all["embedding bag"] = {rows, [](Built& built) -> Layer {
                            auto bag = built.add(nn::EmbeddingBag(10, 8));
                            auto linear = built.add(nn::Linear(8, 8));
                            return [=](torch::Tensor x) mutable {
                              return bag(torch::arange(12).remainder(10).reshape({4, 3})) * linear(x);
                            };
                          }};
  all["attention"] = {text, [](Built& built) -> Layer {
                        auto attention = built.add(nn::MultiheadAttention(8, 2));
                        return [=](torch::Tensor x) mutable { return std::get<0>(attention(x, x, x)); };
                      }};
  all["scaled dot product"] = {{2, 2, 5, 8}, [](Built& built) -> Layer {
                                 auto linear = built.add(nn::Linear(8, 8));
                                 return [=](torch::Tensor x) mutable {
                                   const auto y = linear(x);
                                   return at::scaled_dot_product_attention(y, y, y, {}, 0.0, /*is_causal=*/true);
                                 };
                               }};
  all["encoder"] = {text, in_turn(nn::TransformerEncoderLayer(nn::TransformerEncoderLayerOptions(8, 2)))};
  all["lstm"] = {text, first_of(nn::LSTM(8, 6))};
  all["lstm, behind linear"] = {text, behind_linear(nn::LSTM(8, 6))};
  all["lstm, deep"] = {text, first_of(nn::LSTM(nn::LSTMOptions(8, 6).num_layers(2).bidirectional(true).dropout(0.5)))};
  all["lstm, batch first"] = {text, first_of(nn::LSTM(nn::LSTMOptions(8, 6).batch_first(true).bias(false)))};
  all["lstm, projected"] = {text, first_of(nn::LSTM(nn::LSTMOptions(8, 6).proj_size(3)))};
  all["gru"] = {text, first_of(nn::GRU(8, 6))};
  all["gru, behind linear"] = {text, behind_linear(nn::GRU(8, 6))};
  all["rnn"] = {text, first_of(nn::RNN(8, 6))};
  all["lstm cell"] = {rows, first_of(nn::LSTMCell(8, 6))};
  all["gru cell"] = {rows, in_turn(nn::GRUCell(8, 6))};
  return all;
}

// One pass in `precision`, forward and (training) backward; the type of the output.
torch::ScalarType pass(const Case& the_case, Precision precision, bool training) {
  torch::manual_seed(1);
  Built built;
  built.call = the_case.build(built);
  const auto type = parameter_type(precision);
  set_floating_type(built, type);
  built.train(training);
  const torch::AutoGradMode gradients(training);
  torch::Tensor output;
  {
    const Autocast autocast(precision, torch::kCPU);
    output = built.call(torch::randn(the_case.input).to(type));
  }
  if (!training) return output.scalar_type();
  output.to(torch::kFloat32).square().mean().backward();
  for (const auto& item : built.named_parameters()) {
    const auto& gradient = item.value().grad();
    if (!gradient.defined() || !gradient.isfinite().all().item<bool>()) throw std::runtime_error("no gradient");
  }
  return output.scalar_type();
}

constexpr Precision precisions[] = {Precision::bfloat16_mixed, Precision::bfloat16_true, Precision::float16_mixed,
                                    Precision::float16_true};

TEST(CpuPrecision, EveryLayerRunsInSixteenBits) {
  mend_cpu_autocast();
  for (const auto& [name, the_case] : cases()) {
    for (const auto precision : precisions) {
      for (const bool training : {true, false}) {
        try {
          (void)pass(the_case, precision, training);
        } catch (const std::exception& error) {
          ADD_FAILURE() << name << " in " << name_of(precision) << (training ? ", training: " : ", evaluation: ")
                        << error.what();
        }
      }
    }
  }
}

// As PyTorch does with oneDNN switched off.
TEST(CpuPrecision, AnLstmThatOneDnnRefusesIsInFloat32AndItsNumbersAreThoseOfFloat32) {
  const char* isa = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (isa == nullptr || std::string(isa) != "AVX2") GTEST_SKIP() << "on a CPU without AVX-512";
  mend_cpu_autocast();
  for (const auto precision : {Precision::bfloat16_mixed, Precision::float16_mixed}) {
    for (const bool training : {true, false}) {
      EXPECT_EQ(pass(cases().at("lstm"), precision, training), torch::kFloat32);
    }
    torch::manual_seed(1);
    nn::LSTM lstm(8, 6);
    const auto x = torch::randn({3, 5, 8});
    const auto expected = std::get<0>(lstm(x));
    const Autocast autocast(precision, torch::kCPU);
    EXPECT_EQ((std::get<0>(lstm(x)) - expected).abs().max().item<double>(), 0);
  }
}

// Whether oneDNN has the layer in `type` here.
bool is_taken(torch::ScalarType type, bool training) {
  const torch::AutoGradMode gradients(training);
  const auto zeros = [&](at::IntArrayRef sizes) { return torch::zeros(sizes, type); };
  try {
    const auto weight = zeros({4, 1}).requires_grad_(training);
    const auto out =
        std::get<0>(at::mkldnn_rnn_layer(zeros({1, 1, 1}), weight, zeros({4, 1}), zeros({4}), zeros({4}), zeros({1, 1}),
                                         zeros({1, 1}), false, {}, 2, 1, 1, true, false, false, training));
    if (training) out.sum().backward();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

TEST(CpuPrecision, AnLstmStaysInSixteenBitsWhereOneDnnTakesThem) {
  mend_cpu_autocast();
  for (const bool training : {true, false}) {
    for (const auto& [precision, type] :
         {std::pair(Precision::bfloat16_mixed, torch::kBFloat16), std::pair(Precision::float16_mixed, torch::kHalf)}) {
      const auto expected = is_taken(type, training) ? type : torch::kFloat32;
      EXPECT_EQ(pass(cases().at("lstm"), precision, training), expected) << training << type;
    }
  }
}

class ReaderOfText : public Module {
 public:
  ReaderOfText() {
    lstm_ = register_module("lstm", nn::LSTM(nn::LSTMOptions(1, 4).batch_first(true)));
    out_ = register_module("out", nn::Linear(4, 1));
  }
  torch::Tensor forward(torch::Tensor x) override { return out_(std::get<0>(lstm_(x.unsqueeze(1))).squeeze(1)); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = torch::mse_loss(forward(batch[0]), batch[1]);
    losses.push_back(loss.item<double>());
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", torch::mse_loss(forward(batch[0]), batch[1]));
    return {};
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.3}); }
  std::vector<double> losses;

 private:
  nn::LSTM lstm_{nullptr};
  nn::Linear out_{nullptr};
};

TEST(CpuPrecision, AnLstmTrainsInEveryPrecision) {
  for (const auto precision : precisions) {
    const TempDir dir;
    auto options = quiet(dir);
    options.precision = precision;
    options.accelerator = Accelerator::cpu;
    options.max_epochs = 20;
    Trainer trainer(options);
    const auto model = trainer.fit(std::make_shared<ReaderOfText>(), points(), points());
    EXPECT_LT(model->losses.back(), 0.5 * model->losses.front()) << name_of(precision);
    EXPECT_TRUE(std::isfinite(trainer.callback_metrics().at("val_loss"))) << name_of(precision);
  }
}

TEST(CpuPrecision, HoldsOnACpuWithoutAvx512) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "it is this process";
  const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const std::string isa : {"AVX2", "AVX512_CORE"}) {
    const auto run = run_program("ONEDNN_MAX_CPU_ISA=" + isa + (isa == "AVX2" ? " ATEN_CPU_CAPABILITY=avx2" : "") +
                                 " '" + self + "' cpu_precision_test 2>&1");
    EXPECT_EQ(run.status, 0) << isa << '\n' << run.output;
    EXPECT_THAT(run.output, testing::Not(testing::HasSubstr("Overriding a previously registered kernel")));
  }
}

}  // namespace
}  // namespace troupe
