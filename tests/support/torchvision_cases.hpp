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

/// Collects cases, which one start of Python computes.
class TorchvisionCases {
 public:
  /// `expression` in Python, of `image`, T (transforms.v2), F (its functional) and what
  /// tests/python/torchvision_values.py defines, should be `ours`.
  void add(std::string expression, const torch::Tensor& image, const torch::Tensor& ours) {
    cases_.push_back({std::move(expression), image.contiguous(), ours});
  }

  /// Expects shapes and types to be equal and values to be within `levels` of uint8 or `difference` of a float.
  void compare(double levels = 1, double difference = 1e-5) const {
    const TempDir dir;
    NamedTensors inputs;
    {
      std::ofstream lines(dir / "cases");
      for (std::size_t i = 0; i < cases_.size(); ++i) {
        lines << i << '\t' << cases_[i].expression << '\n';
        inputs.emplace_back(std::to_string(i), cases_[i].image);
      }
    }
    write_safetensors(*real_file_system().create(dir / "inputs"), inputs, {});
    const auto path = [&](const char* name) { return " '" + (dir / name).string() + "'"; };
    python_output("torchvision_values.py", path("cases") + path("inputs") + path("outputs"));
    const SafetensorsFile outputs(dir / "outputs");
    ASSERT_EQ(outputs.entries().size(), cases_.size());
    for (const auto& entry : outputs.entries()) {
      const auto& [expression, image, ours] = cases_.at(std::stoul(entry.name));
      const auto theirs = outputs.read(entry);
      const auto name = expression + " of " + shape_text(image);
      ASSERT_EQ(shape_text(ours), shape_text(theirs)) << name;
      if (ours.numel() == 0) continue;
      const auto gap = (ours.to(torch::kFloat64) - theirs.to(torch::kFloat64)).abs().max().item<double>();
      EXPECT_LE(gap, ours.is_floating_point() ? difference : levels) << name;
    }
  }

 private:
  struct Case {
    std::string expression;
    torch::Tensor image, ours;
  };
  static std::string shape_text(const torch::Tensor& tensor) {
    std::string out = c10::toString(tensor.scalar_type());
    for (const int64_t size : tensor.sizes()) out += " " + std::to_string(size);
    return out;
  }

  std::vector<Case> cases_;
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
