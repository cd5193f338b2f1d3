// examples/custom_operator: an operator of a user's own in a module that is trained, captured and exported; and
// operators that say less of themselves.
#include "examples/custom_operator/custom_operator.hpp"
#include "tests/launch/capture/captured.hpp"
#include "tests/runtime/export/check_exported.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/program.hpp"
#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <torch/library.h>
#include <torch/script.h>

#include <cmath>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// --- The operator ---

// The result of `activation`, and the gradient of a weighted sum of it.
std::pair<torch::Tensor, torch::Tensor> with_gradient(torch::Tensor (*activation)(const torch::Tensor&),
                                                      const torch::Tensor& x, const torch::Tensor& weights) {
  const auto leaf = x.detach().requires_grad_();
  const auto y = activation(leaf);
  return {y.detach(), torch::autograd::grad({(y * weights).sum()}, {leaf})[0]};
}

TEST(SquaredRelu, IsThatOfLibTorchsOperatorsToTheBitAndSoIsItsGradient) {
  for (const auto type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    torch::manual_seed(1);
    const auto whole = torch::randn({6, 5, 40}).to(type);
    for (const auto& x : {whole, whole.transpose(0, 2), whole.slice(2, 1, 40, 3), torch::zeros({0, 3}, type),
                          torch::tensor({-0.0, 0.0, std::nan(""), HUGE_VAL, -HUGE_VAL}).to(type)}) {
      const auto weights = torch::randn(x.sizes()).to(type);
      const auto own = with_gradient(squared_relu, x, weights);
      const auto expected = with_gradient(composite_squared_relu, x, weights);
      EXPECT_TRUE(torch::equal(own.first.nan_to_num(7), expected.first.nan_to_num(7))) << type << x.sizes();
      EXPECT_TRUE(torch::equal(own.second.nan_to_num(7), expected.second.nan_to_num(7))) << type << x.sizes();
    }
  }
}

TEST(SquaredRelu, HasNoGradientOfItsGradient) {
  const auto x = torch::ones({3}, torch::requires_grad());
  const auto gradient = torch::autograd::grad({squared_relu(x).sum()}, {x}, {}, true, /*create_graph=*/true)[0];
  EXPECT_THROW(gradient.sum().backward(), c10::Error);
}

// --- In captured steps ---

class CustomOperator : public CapturedStep {
 protected:
  static DataLoader images() {
    torch::manual_seed(1);
    return {std::make_shared<TensorDataset>(torch::randn({40, 1, 28, 28}), torch::randint(10, {40})),
            {.batch_size = 8, .shuffle = true}};
  }
  static Make perceptron(bool is_composite = false) {
    return [is_composite] {
      return std::make_shared<Perceptron>(PerceptronOptions{.hidden = 16, .composite = is_composite});
    };
  }
};

TEST_F(CustomOperator, IsReplayedWithTheSameBits) {
  has_validation = true;
  expect_captured(perceptron(), images(), options());
  EXPECT_THAT(captured.refusals, IsEmpty());
  EXPECT_GT(captured.replays("validation_step"), 0);
  expect_same(run(perceptron(), images(), options(), CaptureStep::require),
              run(perceptron(/*is_composite=*/true), images(), options(), CaptureStep::off));
}

TEST_F(CustomOperator, IsReplayedOnSeveralDevices) {
  const auto weights = [&](CaptureStep capture) {
    auto two = options();
    two.devices = 2;
    two.capture_step = capture;
    Trainer trainer(two);
    const auto net = trainer.fit<Perceptron>({.hidden = 16}, images());
    EXPECT_EQ(trainer.captured().replays() > 0, capture != CaptureStep::off);
    return torch::nn::utils::parameters_to_vector(net->parameters()).detach();
  };
  EXPECT_TRUE(has_same_bits(weights(CaptureStep::off), weights(CaptureStep::require)));
}

// The lines of the dump that name an operator.
std::vector<std::string> lines_with(const std::string& name, const std::filesystem::path& dump) {
  std::vector<std::string> found;
  std::istringstream lines(content_of(dump));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(name) != std::string::npos) found.push_back(line);
  }
  return found;
}

TEST_F(CustomOperator, WritesIntoMemoryThatIsLaidOutThroughItsOutOverload) {
  auto dumped = options();
  dumped.capture_step_dump = dir_ / "steps.txt";
  run(perceptron(), images(), dumped, CaptureStep::require);
  const auto lines = lines_with("example::squared_relu", dir_ / "steps.txt");
  EXPECT_EQ(lines.size(), 4u) << "two layers, forward and backward";
  EXPECT_THAT(lines, Not(Contains(HasSubstr("# allocates"))));
}

// --- Operators that say less ---

torch::Tensor halved(const torch::Tensor& x) {
  return x * 0.5;
}
torch::Tensor kept_rows(const torch::Tensor& x) {
  return x.index({x.sum(1).gt(0)});
}

// No overload with `out`; a result whose shape depends on values, with the tag that says so.
TORCH_LIBRARY(plain_operators, library) {
  library.def("halved(Tensor self) -> Tensor");
  library.def("kept_rows(Tensor self) -> Tensor", {at::Tag::dynamic_output_shape});
}
TORCH_LIBRARY_IMPL(plain_operators, CPU, library) {
  library.impl("halved", halved);
  library.impl("kept_rows", kept_rows);
}

torch::Tensor call(const char* name, const torch::Tensor& x) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<torch::Tensor(const torch::Tensor&)>().call(x);
}

// Not an operator: LibTorch sees memory only.
torch::Tensor halved_by_hand(const torch::Tensor& x) {
  const auto out = torch::empty_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) out.data_ptr<float>()[i] = x.data_ptr<float>()[i] / 2;
  return out;
}

// Its loss is that of the images after `prepare`, which needs no gradient.
struct Prepared : Perceptron {
  Prepared(torch::Tensor (*prepare)(const torch::Tensor&)) : Perceptron({.hidden = 16}), prepare(prepare) {}
  StepOutput training_step(const Batch& batch, int64_t) override {
    return forward(prepare(batch[0].flatten(1))).square().mean();
  }
  torch::Tensor (*prepare)(const torch::Tensor&);
};

auto prepared(torch::Tensor (*prepare)(const torch::Tensor&)) {
  return [prepare] { return std::make_shared<Prepared>(prepare); };
}

TEST_F(CustomOperator, IsReplayedWithoutAnOutOverloadToo) {
  auto dumped = options();
  dumped.capture_step_dump = dir_ / "steps.txt";
  expect_captured(prepared([](const torch::Tensor& x) { return call("plain_operators::halved", x); }), images(),
                  dumped);
  EXPECT_THAT(lines_with("plain_operators::halved", dir_ / "steps.txt"), ::testing::Each(HasSubstr("# allocates")));
}

TEST_F(CustomOperator, IsNotCapturedIfItsTagsSayThatAReplayCannotDoIt) {
  run(prepared([](const torch::Tensor& x) { return call("plain_operators::kept_rows", x); }), images(), options(),
      CaptureStep::automatic);
  EXPECT_EQ(captured.replays(), 0);
  EXPECT_THAT(captured.refusals,
              Contains(HasSubstr("the shape of plain_operators::kept_rows's result depends on values")));
}

TEST_F(CustomOperator, HasToBeAnOperatorToBeCaptured) {
  run(prepared(halved_by_hand), images(), options(), CaptureStep::automatic);
  EXPECT_EQ(captured.replays(), 0);
  EXPECT_THAT(captured.refusals, Contains(HasSubstr("is made of numbers of the host, which differ between two steps")));
}

// --- Exported ---

TEST_F(CustomOperator, IsCalledByNameInTorchscript) {
  Perceptron net({.hidden = 16});
  net.eval();
  const auto images = torch::randn({5, 1, 28, 28});
  net.to_torchscript(dir_ / "net.pt");
  auto loaded = torch::jit::load((dir_ / "net.pt").string());
  EXPECT_THAT(loaded.get_method("forward").graph()->toString(), HasSubstr("example::squared_relu("));
  // Not to the bit: on some processors the sums of a matrix product depend on where its weights lie in memory.
  EXPECT_TRUE(torch::allclose(loaded.forward({images}).toTensor(), net.forward(images), 1e-5, 1e-6));
}

TEST_F(CustomOperator, IsKnownToPythonOnceItsLibraryIsLoaded) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "Python cannot load a library with a sanitizer in it";
#endif
  Perceptron net({.hidden = 16});
  net.eval();
  net.to_torchscript(dir_ / "net.pt");
  const auto python = [&](const std::string& before) {
    return run_program("'" TROUPE_TEST_PYTHON "' -W ignore -c 'import torch; " + before + "net = torch.jit.load(\"" +
                       (dir_ / "net.pt").string() + "\"); print(net(torch.ones(1, 1, 28, 28)).sum().item())' 2>&1");
  };
  const auto loaded = python("torch.ops.load_library(\"" + example("squared_relu.so") + "\"); ");
  ASSERT_EQ(loaded.status, 0) << loaded.output;
  EXPECT_NEAR(std::stod(loaded.output), net.forward(torch::ones({1, 1, 28, 28})).sum().item<double>(), 1e-5);
  EXPECT_THAT(python("").output, HasSubstr("Unknown builtin op: example::squared_relu"));
}

TEST_F(CustomOperator, IsWrittenToOnnxAsTheExampleSays) {
  ExportCase one{"net", std::make_shared<Perceptron>(PerceptronOptions{.hidden = 16}), batches_of({1, 28, 28}),
                 OnnxOptions{}};
  one.module->eval();
  const TempDir dir;
  write_samples(dir, one);
  one.module->to_onnx(dir / "net.onnx");
  EXPECT_EQ(python_output("check_exported.py", "'" + dir.path().string() + "'"), "");
}

// Halves its scores by an operator that to_onnx knows nothing of.
struct Halving : Perceptron {
  Halving() : Perceptron({.hidden = 16}) {}
  torch::Tensor forward(torch::Tensor image) override {
    return call("plain_operators::halved", Perceptron::forward(image));
  }
};

TEST_F(CustomOperator, IsRefusedByOnnxWithItsNameAndLayerIfNobodySaysHowItIsWritten) {
  Halving net;
  EXPECT_THAT(refusal([&] { net.to_onnx(dir_ / "net.onnx"); }),
              AllOf(HasSubstr("plain_operators::halved"), HasSubstr("register_onnx_operator"), HasSubstr("'net.5'")));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "net.onnx"));
}

TEST_F(CustomOperator, IsLeftOutOfAFileByTheOptionOfTheExample) {
  auto kept = options();
  kept.enable_checkpointing = true;
  Trainer trainer(kept);
  const auto net = trainer.fit<Perceptron>({.hidden = 16}, images());
  const auto portable = load_from_checkpoint<Perceptron>(trainer.best_model_path(), {.hparams = {{"composite", true}}});
  portable->eval();
  const auto script = portable->to_torchscript();
  EXPECT_THAT(script.get_method("forward").graph()->toString(), Not(HasSubstr("example::")));
  const auto some = torch::randn({5, 1, 28, 28});
  EXPECT_TRUE(torch::equal(net->forward(some), portable->forward(some)));
}

}  // namespace
}  // namespace troupe
