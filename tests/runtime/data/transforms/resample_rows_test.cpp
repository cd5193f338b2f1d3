#include "troupe/runtime/data/transforms/resample_rows.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <vector>

namespace troupe::transforms {
namespace {

std::vector<uint8_t> random_row_bytes(int64_t count) {
  const auto bytes = torch::randint(0, 256, {count}, torch::kUInt8);
  return {bytes.const_data_ptr<uint8_t>(), bytes.const_data_ptr<uint8_t>() + count};
}

/// Whether the loops that this CPU runs give the plain loops' bits, over widths around those of its registers.
class ResampleRows : public testing::Test {
 protected:
  ResampleRows() { torch::manual_seed(10); }
  const RowLoops &plain_ = plain_row_loops(), &fast_ = row_loops();
  const std::vector<int64_t> widths_{1, 2, 5, 15, 16, 17, 31, 33, 64, 100};
};

TEST_F(ResampleRows, AlongXAllLoopsGiveTheSameBits) {
  for (const int64_t channels : {1, 3, 4}) {
    for (const int64_t width : widths_) {
      for (const int64_t source : {1, 3, 40, 333}) {
        ResampleAxis axis;
        axis.prepare(0, static_cast<double>(source), width, 0, width, source);
        if (axis.is_identity) continue;
        std::array<std::vector<uint8_t>, kRowBlock> rows;
        std::array<const uint8_t*, kRowBlock> from;
        std::array<std::vector<uint8_t>, 2> results;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          rows[i] = random_row_bytes((source + axis.taps) * channels + kRowSlack);
          from[i] = rows[i].data();
        }
        for (const bool fast : {false, true}) {
          const int64_t stride = width * channels + kRowSlack;
          auto& result = results[fast];
          result.resize(static_cast<std::size_t>(stride * kRowBlock));
          std::array<uint8_t*, kRowBlock> out;
          for (int i = 0; i < kRowBlock; ++i) out[static_cast<std::size_t>(i)] = result.data() + i * stride;
          (fast ? fast_ : plain_).horizontal(from.data(), axis, channels, out.data());
          // What lies behind each row is nobody's.
          for (auto* row : out) std::fill(row + width * channels, row + stride, uint8_t{0});
        }
        EXPECT_EQ(results[0], results[1]) << channels << " channels, " << source << " to " << width;
      }
    }
  }
}

TEST_F(ResampleRows, AlongYAllLoopsGiveTheSameBits) {
  for (const int64_t source : {2, 9, 70}) {
    ResampleAxis axis;
    axis.prepare(0, static_cast<double>(source), 4, 0, 4, source);
    std::vector<std::vector<uint8_t>> rows;
    for (const int64_t bytes : widths_) {
      rows.clear();
      std::vector<const uint8_t*> from;
      for (int64_t i = 0; i < axis.used[1]; ++i) from.push_back(rows.emplace_back(random_row_bytes(bytes)).data());
      std::array<std::vector<uint8_t>, 2> results;
      for (const bool fast : {false, true}) {
        results[fast].resize(static_cast<std::size_t>(bytes));
        (fast ? fast_ : plain_)
            .vertical(from.data(), axis.used[1], &axis.weights[static_cast<std::size_t>(axis.taps)], axis.precision,
                      results[fast].data(), bytes);
      }
      EXPECT_EQ(results[0], results[1]) << source << " rows of " << bytes;
    }
  }
}

TEST_F(ResampleRows, PlanesHaveTheSameBits) {
  const std::array scale{0.0171F, 0.0175F, 0.0174F}, shift{-2.1F, -2.03F, -1.8F};
  for (const int64_t width : widths_) {
    const auto row = random_row_bytes(width * 3);
    for (const bool flip : {false, true}) {
      std::array<std::vector<uint8_t>, 2> levels;
      std::array<std::vector<float>, 2> floats;
      for (const bool fast : {false, true}) {
        const auto& loops = fast ? fast_ : plain_;
        levels[fast].resize(static_cast<std::size_t>(width * 3));
        floats[fast].resize(static_cast<std::size_t>(width * 3));
        loops.to_levels(row.data(), width, 3, flip, levels[fast].data(), width);
        loops.to_floats(row.data(), width, 3, flip, scale.data(), shift.data(), floats[fast].data(), width);
      }
      EXPECT_EQ(levels[0], levels[1]) << width;
      EXPECT_EQ(floats[0], floats[1]) << width;
    }
  }
}

}  // namespace
}  // namespace troupe::transforms
