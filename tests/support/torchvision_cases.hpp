// Images that are held against what torchvision makes of the same input.
#pragma once

#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Images that should be what torchvision makes of others.
class TorchvisionCases {
 public:
  /// `expression` in Python, of `image`, T (transforms.v2), F (its functional) and what
  /// tests/python/torchvision_values.py defines, should be `ours`: its shape and type, values within `levels` of uint8
  /// or `difference` of a float.
  void add(std::string expression, const torch::Tensor& image, const torch::Tensor& ours, double levels = 1,
           double difference = 1e-5) {
    cases_.push_back({std::move(expression), image.contiguous(), ours, levels, difference});
  }

  /// Asks torchvision for all of them, and forgets them.
  void compare() {
    const auto cases = std::exchange(cases_, {});
    if (cases.empty()) return;
    const TempDir dir;
    NamedTensors inputs;
    {
      std::ofstream lines(dir / "cases");
      for (std::size_t i = 0; i < cases.size(); ++i) {
        lines << i << '\t' << cases[i].expression << '\n';
        inputs.emplace_back(std::to_string(i), cases[i].image);
      }
    }
    write_safetensors(*real_file_system().create(dir / "inputs"), inputs, {});
    const auto path = [&](const char* name) { return " '" + (dir / name).string() + "'"; };
    python_output("torchvision_values.py", path("cases") + path("inputs") + path("outputs"));
    const SafetensorsFile outputs(dir / "outputs");
    EXPECT_EQ(outputs.entries().size(), cases.size());
    for (const auto& entry : outputs.entries()) compare_one(cases.at(std::stoul(entry.name)), outputs.read(entry));
  }

 private:
  struct Case {
    std::string expression;
    torch::Tensor image, ours;
    double levels, difference;
  };

  static std::string shape_text(const torch::Tensor& tensor) {
    std::string out = c10::toString(tensor.scalar_type());
    for (const int64_t size : tensor.sizes()) out += " " + std::to_string(size);
    return out;
  }

  static void compare_one(const Case& one, const torch::Tensor& theirs) {
    const auto name = one.expression + " of " + shape_text(one.image);
    ASSERT_EQ(shape_text(one.ours), shape_text(theirs)) << name;
    if (theirs.numel() == 0) return;
    const auto gap = (one.ours.to(torch::kFloat64) - theirs.to(torch::kFloat64)).abs().max().item<double>();
    EXPECT_LE(gap, theirs.is_floating_point() ? one.difference : one.levels) << name;
  }

  std::vector<Case> cases_;
};

/// The tests of a suite collect cases, which are compared after the last of them: one start of Python is enough.
class TorchvisionTest : public testing::Test {
 protected:
  static void TearDownTestSuite() { cases.compare(); }
  static inline TorchvisionCases cases;
};

/// Images of 1 pixel, a row, a column, odd sizes, leading dimensions, one and three channels; uint8, float32, float64.
inline std::vector<torch::Tensor> images_of_many_kinds() {
  std::vector<torch::Tensor> images;
  const std::vector<std::vector<int64_t>> shapes = {{3, 1, 1},   {3, 1, 9},   {1, 8, 1},      {3, 13, 7},
                                                    {1, 10, 17}, {3, 40, 53}, {2, 3, 11, 12}, {2, 2, 3, 6, 5}};
  for (const auto& shape : shapes) {
    const auto levels = torch::randint(0, 256, shape, torch::kUInt8);
    images.push_back(levels);
    images.push_back(torch::rand(shape));
  }
  images.push_back(torch::rand({3, 12, 9}, torch::kFloat64));
  images.push_back(torch::full({3, 9, 9}, 255, torch::kUInt8));
  return images;
}

}  // namespace troupe
