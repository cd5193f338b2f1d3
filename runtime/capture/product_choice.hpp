// Which products of matrices are computed by `multiply`.
#pragma once

#include "troupe/runtime/capture/products.hpp"

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <optional>

namespace troupe::capture {

/// So many products of one shape, whose matrices lie one behind another.
struct Products {
  MatrixProduct each;
  int64_t count = 1;

  auto operator<=>(const Products&) const = default;
};

/// The product as LibTorch computes it: `out` = `a` `b`, plus `start` for each row if it is defined; with three
/// dimensions, each of the first by itself (and no start). float32; `out` and `start` without gaps.
void library_product(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& start, torch::Tensor& out);

/// The number of terms that LibTorch's product of these shapes and strides adds up before it adds their sum to the
/// result, if `multiply` has its bits with it and takes less time; else nullopt. Found by trial with matrices made for
/// it, once per shape, number of threads and process: LibTorch's library of products (MKL, hidden in it) has many
/// kernels, takes one by processor and shape, and says nowhere which. Where a sum was divided shows by what a large
/// number and its opposite swallow between them (FPRev, https://arxiv.org/abs/2411.00442); whether the bits agree, by
/// random numbers, zeros of both signs, infinities and NaN, of which only that it is one.
std::optional<int64_t> faster_block(const Products& products, bool has_start);

/// Of tensors of two or three dimensions: `multiply` with that block if there is one, by as many threads as LibTorch
/// has, and LibTorch's product if there is none or the number of threads has changed since.
std::function<void()> make_product(torch::Tensor a, torch::Tensor b, torch::Tensor start, torch::Tensor out);

}  // namespace troupe::capture
