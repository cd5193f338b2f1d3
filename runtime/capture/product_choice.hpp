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
  bool is_batched = false;  ///< computed by bmm, which has other kernels than mm even for a single one

  auto operator<=>(const Products&) const = default;
};

/// The product as LibTorch computes it: `out` = `a` `b`, plus `start` for each row if it is defined; with three
/// dimensions, each of the first by itself (and no start). float32; `out` and `start` without gaps.
void library_product(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& start, torch::Tensor& out);

/// The order in which a product adds up its terms.
struct Summation {
  int64_t block = 0;              ///< terms that are added up before their sum is added to the result
  bool begins_with_zero = false;  ///< without a start the first sum is added to 0, which makes 0 of -0
};

/// That of LibTorch's product of these shapes and strides, if `multiply` has its bits with it and takes less time; else
/// nullopt. Found by trial with matrices made for it, once per shape, setting of LibTorch (number of threads, precision
/// of float32 products, denormal numbers) and process: LibTorch's library of products (MKL, hidden in it) has many
/// kernels, takes one by processor and shape, and says nowhere which. Where a sum was divided shows by what a large
/// number and its opposite swallow between them (FPRev, https://arxiv.org/abs/2411.00442); whether the bits agree, by
/// random numbers, zeros of both signs, products too small for a number, infinities and NaN, of which only that it is
/// one.
std::optional<Summation> faster_summation(const Products& products, bool has_start);

/// How many elements lie between a multiple of 16 bytes and the tensor's first one. LibTorch's products add up in
/// another order if there are some. In what LibTorch allocates there are none; a part of a larger tensor may have some.
int64_t elements_past_vector(const torch::Tensor& tensor);

/// Of tensors of two or three dimensions: `multiply` with that order if there is one, by as many threads as LibTorch
/// has, and LibTorch's product if there is none or the setting has changed since.
std::function<void()> make_product(torch::Tensor a, torch::Tensor b, torch::Tensor start, torch::Tensor out);

}  // namespace troupe::capture
