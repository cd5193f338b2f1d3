// What every transport has to get right, for the tests of each: every operation and type against a plain sum.
#pragma once

#include "troupe/runtime/collectives/collective_backend.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/gather.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

namespace troupe::testing_collectives {

using c10d::ReduceOp;

inline const std::vector<at::ScalarType>& reducible_types() {
  static const std::vector<at::ScalarType> types = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kChar,
                                                    at::kByte,  at::kShort,  at::kInt,      at::kLong, at::kBool};
  return types;
}

inline const std::vector<ReduceOp::RedOpType>& operations() {
  static const std::vector<ReduceOp::RedOpType> all = {ReduceOp::SUM, ReduceOp::AVG, ReduceOp::PRODUCT, ReduceOp::MIN,
                                                       ReduceOp::MAX};
  return all;
}

inline bool allowed(at::ScalarType type, ReduceOp::RedOpType op) {
  return op != ReduceOp::AVG || at::isFloatingType(type);
}

/// What rank `rank` gives: the same on every rank that computes it. Small values, so that sums are exact in all types
/// but the half ones, which have few digits.
inline at::Tensor given(int rank, at::IntArrayRef shape, at::ScalarType type) {
  auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(17 + rank));
  if (type == at::kBool) return at::randint(0, 2, shape, generator).to(type);
  if (at::isFloatingType(type)) return at::rand(shape, generator, at::kDouble).sub(0.25).to(type);
  return at::randint(1, 3, shape, generator).to(type);
}

/// The plain result, in double.
inline at::Tensor expected(int size, at::IntArrayRef shape, at::ScalarType type, ReduceOp::RedOpType op) {
  auto result = given(0, shape, type).to(at::kDouble);
  for (int rank = 1; rank < size; ++rank) {
    const auto next = given(rank, shape, type).to(at::kDouble);
    switch (op) {
      case ReduceOp::SUM:
      case ReduceOp::AVG: result = result + next; break;
      case ReduceOp::PRODUCT: result = result * next; break;
      case ReduceOp::MIN: result = at::minimum(result, next); break;
      default: result = at::maximum(result, next); break;
    }
  }
  if (op == ReduceOp::AVG) result = result / size;
  if (type == at::kBool) return result.clamp(0, 1);
  // Eight twos are more than eight bits hold: integers wrap.
  return at::isIntegralType(type, /*includeBool=*/false) ? result.to(at::kLong).to(type).to(at::kDouble) : result;
}

/// Relative to the largest value: a half type keeps 8 or 11 bits, and is rounded once, or twice over two transports.
inline double tolerance(at::ScalarType type) {
  switch (type) {
    case at::kDouble: return 1e-14;
    case at::kFloat: return 1e-6;
    case at::kBFloat16: return 0.009;
    case at::kHalf: return 0.0012;
    default: return 0;
  }
}

inline void expect_near(const at::Tensor& result, const at::Tensor& plain, const std::string& what) {
  const auto difference = (result.to(at::kDouble) - plain).abs();
  const double most = plain.numel() == 0 ? 0 : difference.max().item<double>();
  const double largest = plain.numel() == 0 ? 0 : plain.abs().max().item<double>();
  // Near zero a half has steps of 2^-24, whatever the value.
  const double step = result.scalar_type() == at::kHalf ? 0x1p-24 : 0;
  EXPECT_LE(most, tolerance(result.scalar_type()) * largest + step) << what;
}

inline std::string name(at::ScalarType type, ReduceOp::RedOpType op, at::IntArrayRef shape) {
  std::ostringstream text;
  text << type << " " << shape << " operation " << static_cast<int>(op);
  return text.str();
}

inline void all_reduce(c10d::Backend& backend, at::Tensor tensor, ReduceOp::RedOpType op = ReduceOp::SUM) {
  std::vector<at::Tensor> tensors = {std::move(tensor)};
  backend.allreduce(tensors, {.reduceOp = op})->wait();
}

inline void check_all_reduce(c10d::Backend& backend, at::IntArrayRef shape) {
  for (const auto type : reducible_types()) {
    for (const auto op : operations()) {
      if (!allowed(type, op)) continue;
      auto tensor = given(backend.getRank(), shape, type);
      all_reduce(backend, tensor, op);
      expect_near(tensor, expected(backend.getSize(), shape, type, op), "all-reduce " + name(type, op, shape));
    }
  }
}

inline void check_reduce_scatter(c10d::Backend& backend, int64_t elements) {
  const int64_t total = elements * backend.getSize();
  for (const auto type : reducible_types()) {
    for (const auto op : operations()) {
      if (!allowed(type, op)) continue;
      auto input = given(backend.getRank(), total, type);
      auto output = at::empty({elements}, input.options());
      backend._reduce_scatter_base(output, input, {.reduceOp = op})->wait();
      const auto plain = expected(backend.getSize(), total, type, op);
      expect_near(output, plain.narrow(0, backend.getRank() * elements, elements),
                  "reduce-scatter " + name(type, op, elements));
    }
  }
}

inline void check_broadcast(c10d::Backend& backend, at::IntArrayRef shape) {
  auto types = reducible_types();
  types.push_back(at::kComplexDouble);
  for (const auto type : types) {
    for (int root = 0; root < backend.getSize(); ++root) {
      std::vector<at::Tensor> tensors = {given(backend.getRank(), shape, type)};
      backend.broadcast(tensors, {.rootRank = root})->wait();
      EXPECT_TRUE(tensors[0].equal(given(root, shape, type))) << "broadcast of " << type << " from " << root;
    }
  }
}

inline void check_all_gather(c10d::Backend& backend, at::IntArrayRef shape) {
  for (const auto type : reducible_types()) {
    std::vector<at::Tensor> inputs = {given(backend.getRank(), shape, type)};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int rank = 0; rank < backend.getSize(); ++rank) outputs[0].push_back(at::empty_like(inputs[0]));
    backend.allgather(outputs, inputs)->wait();
    auto flat = at::empty({backend.getSize() * inputs[0].numel()}, inputs[0].options());
    backend._allgather_base(flat, inputs[0])->wait();
    for (int rank = 0; rank < backend.getSize(); ++rank) {
      const auto plain = given(rank, shape, type);
      EXPECT_TRUE(outputs[0][static_cast<std::size_t>(rank)].equal(plain)) << type << " of rank " << rank;
      EXPECT_TRUE(flat.narrow(0, rank * plain.numel(), plain.numel()).equal(plain.view(-1))) << type;
    }
  }
}

/// The bits of an all-reduced tensor are those of rank 0, NaN and zeros of both signs included.
inline void check_equal_bits(c10d::Backend& backend, int64_t elements) {
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    for (const auto op : operations()) {
      auto tensor = given(backend.getRank(), elements, type);
      tensor[0] = backend.getRank() == 0 ? 0.0 : -0.0;
      if (elements > 1) tensor[1] = backend.getRank() == backend.getSize() - 1 ? NAN : 1.0;
      all_reduce(backend, tensor, op);
      EXPECT_EQ(tensor.isnan().any().item<bool>(), elements > 1) << name(type, op, elements);
      const auto bits = tensor.view(at::kByte);
      std::vector<at::Tensor> first = {bits.clone()};
      backend.broadcast(first)->wait();
      EXPECT_TRUE(bits.equal(first[0])) << name(type, op, elements);
    }
  }
}

/// Tensors that a transport cuts into pieces.
inline void check_large(c10d::Backend& backend) {
  constexpr int64_t elements = 3'000'001;
  const int n = backend.getSize();
  const auto plain = at::arange(elements, at::kDouble) * n + n * (n - 1) / 2;
  auto tensor = at::arange(elements, at::kDouble) + backend.getRank();
  all_reduce(backend, tensor);
  EXPECT_TRUE(tensor.equal(plain));
  auto half = at::full({elements}, backend.getRank() + 1, at::kBFloat16);
  all_reduce(backend, half);
  EXPECT_TRUE(half.eq(n * (n + 1) / 2).all().item<bool>());
  const int64_t share = elements / n;
  auto input = (at::arange(elements, at::kDouble) + backend.getRank()).narrow(0, 0, share * n);
  auto output = at::empty({share}, at::kDouble);
  backend._reduce_scatter_base(output, input)->wait();
  EXPECT_TRUE(output.equal(plain.narrow(0, share * backend.getRank(), share)));
  auto gathered = at::empty({share * n}, at::kDouble);
  backend._allgather_base(gathered, output)->wait();
  EXPECT_TRUE(gathered.equal(plain.narrow(0, 0, share * n)));
}

/// Tensors and texts of another size on every rank.
inline void check_uneven(c10d::Backend& backend) {
  const auto shape_of = [](int rank) { return std::vector<int64_t>{rank % 3, rank + 2}; };  // rank 0 has no element
  const auto all = all_gather_uneven(backend, given(backend.getRank(), shape_of(backend.getRank()), at::kFloat));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(backend.getSize()));
  const auto texts = all_gather_bytes(backend, std::string(static_cast<std::size_t>(backend.getRank()), 'x'));
  for (int rank = 0; rank < backend.getSize(); ++rank) {
    EXPECT_TRUE(all[static_cast<std::size_t>(rank)].equal(given(rank, shape_of(rank), at::kFloat)));
    EXPECT_EQ(texts.at(static_cast<std::size_t>(rank)), std::string(static_cast<std::size_t>(rank), 'x'));
  }
  if (backend.getSize() == 1) return;
  const auto type = backend.getRank() == 1 ? at::kDouble : at::kFloat;
  EXPECT_THROW(all_gather_uneven(backend, at::ones({2}, type)), CollectiveError);
}

/// Tensors that are no plain piece of memory.
inline void check_strides(c10d::Backend& backend) {
  const int n = backend.getSize();
  auto tensor = given(backend.getRank(), {4, 6}, at::kDouble).t();
  const auto inputs = tensor.clone();
  all_reduce(backend, tensor);
  EXPECT_TRUE(tensor.allclose(expected(n, {4, 6}, at::kDouble, ReduceOp::SUM).t()));
  auto wide = at::zeros({n, 4});
  auto column = wide.select(1, 2);
  auto ours = at::full({1}, backend.getRank() + 1.0);
  backend._allgather_base(column, ours)->wait();
  EXPECT_TRUE(column.equal(at::arange(1, n + 1, at::kFloat)));
  EXPECT_EQ(wide.sum().item<float>(), static_cast<float>(n * (n + 1) / 2));
  // In place, as sharded optimizers do it: this rank's part lies in the memory of all.
  auto whole = given(backend.getRank(), {n * 5}, at::kDouble);
  auto part = whole.narrow(0, backend.getRank() * 5, 5);
  backend._reduce_scatter_base(part, whole)->wait();
  backend._allgather_base(whole, part)->wait();
  EXPECT_TRUE(whole.allclose(expected(n, {n * 5}, at::kDouble, ReduceOp::SUM)));
  std::vector<at::Tensor> several = {at::ones({2, 2}), at::full({3}, 2.0)};
  backend.allreduce_coalesced(several, {})->wait();
  EXPECT_TRUE(several[0].eq(n).all().item<bool>() && several[1].eq(2 * n).all().item<bool>());
  std::vector<std::vector<at::Tensor>> lists(1);
  for (int rank = 0; rank < n; ++rank) lists[0].push_back(at::full({2}, static_cast<double>(rank)));
  std::vector<at::Tensor> output = {at::empty({2})};
  backend.reduce_scatter(output, lists)->wait();
  EXPECT_TRUE(output[0].eq(n * backend.getRank()).all().item<bool>());
}

/// Everything above, small and large, for one rank of a group.
inline void check_operations(c10d::Backend& backend) {
  for (const int64_t elements : {1, 7, 10'000}) {
    check_all_reduce(backend, elements);
    check_reduce_scatter(backend, elements);
    check_broadcast(backend, elements);
    check_all_gather(backend, elements);
    check_equal_bits(backend, elements);
  }
  check_all_reduce(backend, {3, 0});
  check_all_reduce(backend, at::IntArrayRef{});
  check_all_gather(backend, {0});
  check_broadcast(backend, {2, 3});
  check_strides(backend);
  backend.barrier()->wait();
}

}  // namespace troupe::testing_collectives
