// Arrays that numpy wrote, for tests.
#pragma once

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <sstream>
#include <string>
#include <vector>

namespace troupe {

struct NumpyArray {
  std::string name, type, sizes, values;

  void expect_same(const torch::Tensor& tensor) const {
    EXPECT_EQ(c10::toString(tensor.scalar_type()), type) << name;
    std::string found;
    for (const int64_t size : tensor.sizes()) found += (found.empty() ? "" : ",") + std::to_string(size);
    EXPECT_EQ(found.empty() ? "-" : found, sizes) << name;
    const auto plain = tensor.contiguous();
    EXPECT_EQ(std::string(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()), values) << name;
  }
};

/// All that tests/python/write_arrays.py writes.
inline std::vector<NumpyArray> write_numpy_arrays(const TempDir& dir) {
  std::istringstream lines(python_output("write_arrays.py", dir.path().string() + " 2>/dev/null"));
  std::vector<NumpyArray> out;
  NumpyArray array;
  while (lines >> array.name >> array.type >> array.sizes) {
    array.values = content_of(dir / (array.name + ".raw"));
    out.push_back(array);
  }
  return out;
}

}  // namespace troupe
