// What export says where it cannot: inputs, paths, operators, values that depend on sizes.
#include "tests/runtime/export/export_cases.hpp"
#include "tests/runtime/export/model_cases.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace troupe {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

/// What the export of a function of [batch, 4] says.
std::string onnx_of(Net::Function function, const OnnxOptions& options = {},
                    const torch::Tensor& x = torch::ones({2, 4})) {
  const TempDir dir;
  Net net(std::move(function));
  const auto text = refusal([&] { net.to_onnx(dir / "model.onnx", x, options); });
  EXPECT_EQ(std::filesystem::is_empty(dir.path()), text != "accepted") << text;
  return text;
}

/// What the file system says to all exports.
void expect_unwritable(const std::filesystem::path& path, const std::string& reason) {
  Digits digits{DigitsOptions{}};
  for (const auto& act : {std::function<void()>([&] { digits.to_onnx(path); }),
                          std::function<void()>([&] { digits.to_exported_program(path); }),
                          std::function<void()>([&] { digits.to_torchscript(path); })}) {
    try {
      act();
      ADD_FAILURE() << "wrote " << path;
    } catch (const FileError& error) {
      EXPECT_THAT(error.what(), HasSubstr(reason));
    }
  }
}

TEST(BadExport, RefusesNumbersThatForwardReadsOfItsInput) {
  const std::vector<Net::Function> functions = {
      [](const auto& x) { return x * x.abs().sum().template item<float>(); },
      [](const auto& x) { return x.slice(1, 0, static_cast<int64_t>(x[0][0].template item<float>())) + 1; },
      [](const auto& x) { return x.max().template item<float>() > 0 ? x + 1 : x; },
      [](const auto& x) { return (x.max() > 0).is_nonzero() ? x + 1 : x; }};
  for (const bool dynamic_batch : {true, false}) {
    for (const auto& function : functions) {
      EXPECT_THAT(onnx_of(function, {.dynamic_batch = dynamic_batch}),
                  HasSubstr("forward reads a number back to the host that depends on the input (aten::"));
      const TempDir dir;
      Net net(function);
      EXPECT_THAT(refusal([&] {
                    net.to_exported_program(dir / "model.pt2", torch::ones({2, 4}), {.dynamic_batch = dynamic_batch});
                  }),
                  HasSubstr("to_exported_program: forward reads a number back"));
    }
  }
  const auto weight = torch::full({1}, 2.0F);
  EXPECT_EQ(onnx_of([weight](const auto& x) { return x * weight.item<float>(); }), "accepted");
}

TEST(BadExport, SaysWhichPathCannotBeWrittenAndLeavesNothing) {
  const TempDir dir;
  put(dir / "file", "");
  expect_unwritable(dir / "file/model.onnx", "file'");
  std::filesystem::create_directory(dir / "folder");
  expect_unwritable(dir / "folder", "Is a directory");
  expect_unwritable("/proc/no_such_folder/model.onnx", "/proc/no_such_folder");  // read-only, for root too
  EXPECT_THAT(refusal([] { Digits(DigitsOptions{}).to_onnx(""); }), HasSubstr("the path of the file is empty"));
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) {
    left.push_back(entry.path().filename());
  }
  EXPECT_THAT(left, testing::UnorderedElementsAre("file", "folder"));
}

TEST(BadExport, LeavesNoDataFileBesideAModelThatCannotBeWritten) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "folder");
  Digits digits{DigitsOptions{}};
  EXPECT_THROW(digits.to_onnx(dir / "folder", {}, {.external_data = true}), FileError);
  EXPECT_FALSE(std::filesystem::exists(dir / "folder.data"));
}

TEST(BadExport, MakesAMissingFolder) {
  const TempDir dir;
  Digits digits{DigitsOptions{}};
  digits.to_onnx(dir / "a/b/digits.onnx");
  EXPECT_TRUE(std::filesystem::exists(dir / "a/b/digits.onnx"));
}

TEST(BadExport, AsksForAnExample) {
  Gan gan{GanOptions{}};
  const auto text = "there is no example input: set example_input_array in the module, or pass one";
  EXPECT_EQ(refusal([&] { gan.to_onnx("unused"); }), std::string("to_onnx: ") + text);
  EXPECT_EQ(refusal([&] { gan.to_exported_program("unused"); }), std::string("to_exported_program: ") + text);
  EXPECT_EQ(refusal([&] { gan.to_torchscript(); }), std::string("to_torchscript: ") + text);
  EXPECT_THAT(refusal([&] { gan.to_torchscript({}, torch::Tensor()); }), HasSubstr("an undefined tensor"));
  EXPECT_THAT(refusal([&] {
                gan.to_torchscript({}, {torch::zeros({1, 64}), torch::zeros({1})});
              }),
              HasSubstr("forward takes one tensor, but there are 2 example inputs: give options.forward"));
  EXPECT_THAT(refusal([&] { gan.to_torchscript({}, torch::zeros({0, 64})); }), HasSubstr("has no elements"));
}

TEST(BadExport, SaysWhatForwardSays) {
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) {
                return x.view({3, 5});
              }),
              AllOf(StartsWith("to_onnx: forward failed for the example of shape [2, 4]: "),
                    HasSubstr("shape '[3, 5]' is invalid for input of size 8")));
  EXPECT_THAT(onnx_of([](const torch::Tensor&) { return torch::Tensor(); }),
              HasSubstr("forward failed for the example of shape [2, 4]: it returned an undefined tensor"));
  EXPECT_THAT(onnx_of([](const torch::Tensor&) -> torch::Tensor { throw std::runtime_error("no luck"); }),
              HasSubstr("no luck"));
  // The module is in its mode again, and can be exported when the problem is gone.
  Net net([](const torch::Tensor& x) { return x.size(1) == 4 ? x + 1 : x.view({7}); });
  EXPECT_THAT(refusal([&] { net.to_torchscript({}, torch::ones({2, 3})); }), HasSubstr("forward failed"));
  EXPECT_TRUE(net.is_training());
  EXPECT_EQ(refusal([&] { net.to_torchscript({}, torch::ones({2, 4})); }), "accepted");
}

TEST(BadExport, NamesAnOperatorWithoutMappingItsModuleAndItsLine) {
  torch::nn::Linear linear(4, 4);
  Net net([&](const torch::Tensor& x) { return torch::fft_fft(linear(x)).abs(); }, {linear.ptr()});
  const auto text = refusal([&] { net.to_onnx("unused", torch::ones({2, 4})); });
  EXPECT_THAT(text,
              StartsWith("to_onnx: the operator aten::fft_fft has no mapping to ONNX; behind the module 'layer0', "
                         "node "));
  EXPECT_THAT(text, HasSubstr(" = aten::fft_fft(%"));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return torch::logcumsumexp(x, 1); }),
              HasSubstr("the operator aten::logcumsumexp has no mapping to ONNX (aten::logsumexp has one)"));
}

TEST(BadExport, SaysWhyAnOperatorHasNoMappingHere) {
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return torch::one_hot(x.to(torch::kLong)); }),
              AllOf(StartsWith("to_onnx: aten::one_hot has no mapping to ONNX here: the number of classes depends on "
                               "values: give num_classes"),
                    HasSubstr("node ")));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return x.repeat_interleave(x[0].to(torch::kLong), 1); }),
              HasSubstr("the size of what it gives depends on values; 'repeats' may be a number or a weight"));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return x.index({x > 5}).sum() + x; }),
              HasSubstr("indexes with a mask"));
  EXPECT_THAT(
      onnx_of([](const torch::Tensor& x) { return std::get<1>(at::max_pool1d_with_indices(x.unsqueeze(1), 2)); }),
      HasSubstr("its indices are used"));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return torch::randn({4}) + x; }), HasSubstr("aten::randn"));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return torch::fft_fft(x); }), HasSubstr("aten::fft_fft"));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) { return x; }, {}, torch::ones({2}, torch::kComplexFloat)),
              HasSubstr("ONNX has no tensors of ComplexFloat"));
}

TEST(BadExport, NamesTheOpsetThatHasAnOperatorAndItsLayer) {
  const auto at_opset = [](int64_t opset, Net::Function function, const torch::Tensor& x) {
    return onnx_of(std::move(function), {.opset_version = opset}, x);
  };
  const auto volume = [](const torch::Tensor& x) { return at::grid_sampler(x, x.transpose(1, 4), 0, 0, false); };
  EXPECT_THAT(at_opset(19, volume, torch::ones({2, 3, 4, 4, 3})), HasSubstr("needs opset_version 20"));
  const auto largest = [](const torch::Tensor& x) {
    return x.scatter_reduce(1, torch::zeros({1, 4}, torch::kLong).expand({x.size(0), 4}), x, "amax");
  };
  EXPECT_THAT(at_opset(17, largest, torch::ones({2, 4})), HasSubstr("needs opset_version 18"));
  torch::nn::Linear layer(4, 4);
  Net net([&](const torch::Tensor& x) { return largest(layer(x)); }, {layer.ptr()});
  EXPECT_THAT(refusal([&] {
                net.to_onnx("unused", torch::ones({2, 4}), {.opset_version = 17});
              }),
              AllOf(HasSubstr("needs opset_version 18"), HasSubstr("behind the module 'layer0', node ")));
}

TEST(BadExport, AsksToRegisterAWeight) {
  torch::nn::Linear linear(4, 4);
  EXPECT_THAT(onnx_of([&](const torch::Tensor& x) { return linear(x); }),
              HasSubstr("is no parameter of the module or of a module in it: register it"));
}

TEST(BadExport, RefusesAViewThatIsChangedInPlace) {
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) {
                auto y = x.clone();
                y.select(1, 0).fill_(1);
                return y;
              }),
              AllOf(HasSubstr("changes a tensor in place (aten::fill_)"), HasSubstr("node ")));
}

TEST(BadExport, SaysWhereAValueDependsOnASizeInAWayThatItCannotFollow) {
  const auto root = [](const torch::Tensor& x) { return x * std::sqrt(static_cast<double>(x.size(0))); };
  EXPECT_THAT(onnx_of(root), AllOf(HasSubstr("depends on batch = 2 in a way that export cannot follow: it is 1.414"),
                                   HasSubstr("aten::mul")));
  EXPECT_EQ(onnx_of(root, {.dynamic_batch = false}), "accepted");
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) {
                return x.reshape({x.size(0) / 1, 4}) + x.size(0) % 2;
              }),
              HasSubstr("cannot follow"));
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) {
                return x + torch::tensor(std::vector<float>(static_cast<std::size_t>(x.size(0)), 1)).unsqueeze(1);
              }),
              HasSubstr("a tensor that is not made by operators"));
}

TEST(BadExport, SaysWhereASizeDecidesWhatIsRun) {
  const auto loop = [](const torch::Tensor& x) {
    auto sum = x[0];
    for (int64_t i = 1; i < x.size(0); ++i) sum = sum + x[i];
    return sum;
  };
  EXPECT_THAT(onnx_of(loop),
              AllOf(HasSubstr("forward runs other operators for batch = "), HasSubstr("than for batch = 2"),
                    HasSubstr("node "), HasSubstr("dynamic_batch = false")));
  EXPECT_EQ(onnx_of(loop, {.dynamic_batch = false}), "accepted");
}

TEST(BadExport, SaysThatForwardTakesNoOtherSize) {
  EXPECT_THAT(onnx_of([](const torch::Tensor& x) {
                return x.view({2, 4});
              }),
              AllOf(HasSubstr("takes no other sizes of the dynamic axis 'batch' than the example's 2; for 3 it says: "),
                    HasSubstr("dynamic_batch = false")));
}

TEST(BadExport, ChecksNamesAndAxes) {
  const auto same = [](const torch::Tensor& x) { return x + 1; };
  EXPECT_THAT(onnx_of(same, {.input_names = {"a", "b"}}), HasSubstr("2 input_names were given for 1 inputs"));
  EXPECT_THAT(onnx_of(same, {.input_names = {""}}), HasSubstr("must be different and not empty"));
  EXPECT_THAT(onnx_of(same, {.output_names = {"a", "b"}}), HasSubstr("2 output_names were given for 1 outputs"));
  EXPECT_THAT(onnx_of(same, {.output_names = {"input"}}), HasSubstr("the output name 'input' is taken"));
  EXPECT_THAT(onnx_of(same, {.dynamic_axes = {{"imput", {{1, "n"}}}}}),
              HasSubstr("dynamic_axes names the input 'imput', which there is not; did you mean 'input'?"));
  EXPECT_THAT(onnx_of(same, {.dynamic_axes = {{"input", {{2, "n"}}}}}), HasSubstr("names axis 2 of the input 'input'"));
  EXPECT_THAT(onnx_of(same, {.dynamic_axes = {{"input", {{1, ""}}}}}), HasSubstr("an axis without a name"));
  EXPECT_THAT(onnx_of(same, {.dynamic_axes = {{"input", {{1, "batch"}}}}}),
              HasSubstr("has the size 2 in one input and 4"));
  for (const int64_t opset : {-1, 16, 24}) {
    EXPECT_EQ(onnx_of(same, {.opset_version = opset}),
              "to_onnx: opset_version " + std::to_string(opset) + " is none of 17 to 23");
  }
}

TEST(BadExport, RefusesMoreThanOneFileCanHold) {
  const TempDir dir;
  // 3 GB as far as sizes go; the memory of one number.
  Net net([](const torch::Tensor& x) { return x; });
  auto& large = net.register_parameter("large", torch::zeros({1}).expand({1 << 20, 768}), /*requires_grad=*/false);
  Net uses([&](const torch::Tensor& x) { return x + large.select(0, 0).sum(); });
  uses.register_parameter("large", large, false);
  EXPECT_THAT(refusal([&] {
                uses.to_onnx(dir / "large.onnx", torch::ones({2, 4}));
              }),
              AllOf(HasSubstr("one file can hold 2 GB"), HasSubstr("set external_data")));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace troupe
