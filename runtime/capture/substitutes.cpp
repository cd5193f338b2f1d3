#include "troupe/runtime/capture/substitutes.hpp"

#include "troupe/runtime/capture/kernels.hpp"
#include "troupe/runtime/capture/product_choice.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/add.h>
#include <ATen/ops/div.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>

namespace troupe::capture {

namespace {

using Arguments = std::vector<c10::IValue>;
using Results = std::vector<torch::Tensor>;

struct Substitute {
  std::string_view name;
  bool (*fits)(const Action& action);
  Kernel (*make)(Arguments arguments, Results results);
};

const View* view_at(const Action& action, std::size_t index) {
  return std::get_if<View>(&action.arguments[index]);
}

const c10::IValue& value_at(const Action& action, std::size_t index) {
  return std::get<c10::IValue>(action.arguments[index]);
}

bool is_plain_float(const View* view) {
  return view && view->type == torch::kFloat32 && is_contiguous(*view);
}

bool has_results(const Action& action, std::size_t count) {
  if (action.results.size() != count) return false;
  for (const auto& result : action.results) {
    if (!result) return false;
  }
  return true;
}

// --- Pooling ---

bool fits_max_pool(const Action& action) {
  return is_plain_float(view_at(action, 0)) && has_results(action, 2) && is_plain_float(&*action.results[0]) &&
         is_contiguous(*action.results[1]);
}

Kernel make_max_pool(Arguments arguments, Results results) {
  const auto pair = [](const c10::IValue& value, const std::vector<int64_t>& otherwise) {
    auto list = value.toIntVector();
    if (list.empty()) list = otherwise;
    if (list.size() == 1) list.push_back(list[0]);
    return list;
  };
  const auto kernel = pair(arguments[1], {});
  MaxPool pool;
  pool.kernel = {kernel[0], kernel[1]};
  const auto stride = pair(arguments[2], kernel), padding = pair(arguments[3], {0}), dilation = pair(arguments[4], {1});
  pool.stride = {stride[0], stride[1]};
  pool.padding = {padding[0], padding[1]};
  pool.dilation = {dilation[0], dilation[1]};
  const auto input = arguments[0].toTensor();
  pool.in = {input.size(-2), input.size(-1)};
  pool.out = {results[0].size(-2), results[0].size(-1)};
  pool.planes = pool.in[0] * pool.in[1] == 0 ? 0 : input.numel() / (pool.in[0] * pool.in[1]);
  return [pool, input, results] {
    max_pool(pool, input.const_data_ptr<float>(), results[0].mutable_data_ptr<float>(),
             results[1].mutable_data_ptr<int64_t>());
  };
}

// --- Draws ---

// Without gaps, in whatever order of dimensions.
bool is_dense(const View& view) {
  std::vector<std::pair<int64_t, int64_t>> steps;  // stride and size
  for (std::size_t i = 0; i < view.sizes.size(); ++i) {
    if (view.sizes[i] != 1) steps.emplace_back(view.strides[i], view.sizes[i]);
  }
  std::ranges::sort(steps);
  int64_t expected = 1;
  for (const auto& [stride, size] : steps) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

// With the default generator, from whose engine LibTorch draws in the order of memory.
bool fits_bernoulli(const Action& action) {
  const View* self = view_at(action, 0);
  return self && self->type == torch::kFloat32 && is_dense(*self) && value_at(action, 2).isNone();
}

Kernel make_bernoulli(Arguments arguments, Results) {
  const auto self = arguments[0].toTensor();
  const double p = arguments[1].toDouble();
  return [self, p] {
    auto generator = at::globalContext().defaultGenerator(torch::kCPU);
    const std::lock_guard lock(generator.mutex());
    auto* cpu = at::check_generator<at::CPUGeneratorImpl>(generator);
    auto state = cpu->engine().data();
    bernoulli(state, p, self.mutable_data_ptr<float>(), self.numel());
    at::mt19937 engine;
    engine.set_data(state);
    cpu->set_engine(engine);
  };
}

// --- Element by element ---

bool fits_relu(const Action& action) {
  return is_plain_float(view_at(action, 0)) && has_results(action, 1) && is_plain_float(&*action.results[0]);
}

Kernel make_relu(Arguments arguments, Results results) {
  const auto input = arguments[0].toTensor();
  return [input, output = results[0]] {
    relu(input.const_data_ptr<float>(), output.mutable_data_ptr<float>(), input.numel());
  };
}

torch::Tensor as_tensor(const c10::IValue& number) {
  const auto scalar = number.toScalar();
  auto tensor = at::scalar_tensor(scalar, scalar.isFloatingPoint() ? torch::kFloat64
                                          : scalar.isBoolean()     ? torch::kBool
                                                                   : torch::kInt64);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

// LibTorch makes a tensor of the number each time and goes on with it.
bool fits_with_number(const Action& action) {
  return has_results(action, 1) && view_at(action, 0) && !value_at(action, 1).isComplexDouble();
}

Kernel make_mul(Arguments arguments, Results results) {
  return [self = arguments[0].toTensor(), other = as_tensor(arguments[1]), out = results[0]]() mutable {
    at::mul_out(out, self, other);
  };
}

Kernel make_div(Arguments arguments, Results results) {
  return [self = arguments[0].toTensor(), other = as_tensor(arguments[1]), out = results[0]]() mutable {
    at::div_out(out, self, other);
  };
}

Kernel make_add(Arguments arguments, Results results) {
  return [self = arguments[0].toTensor(), other = as_tensor(arguments[1]), alpha = arguments[2].toScalar(),
          out = results[0]]() mutable { at::add_out(out, self, other, alpha); };
}

Kernel make_sub(Arguments arguments, Results results) {
  return [self = arguments[0].toTensor(), other = as_tensor(arguments[1]), alpha = arguments[2].toScalar(),
          out = results[0]]() mutable { at::sub_out(out, self, other, alpha); };
}

// --- Whole tensors ---

bool fits_copy(const Action& action) {
  return has_results(action, 1) && view_at(action, 0);
}

Kernel make_copy(Arguments arguments, Results results) {
  const auto from = arguments[0].toTensor();
  const auto to = results[0];
  if (from.scalar_type() == to.scalar_type() && from.is_contiguous() && to.is_contiguous()) {
    return [from, to] { std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes()); };
  }
  return [from, to] { to.copy_(from); };
}

bool fits_sum(const Action& action) {
  return has_results(action, 1) && view_at(action, 0);
}

Kernel make_sum(Arguments arguments, Results results) {
  const auto type = arguments[1].isNone() ? std::nullopt : std::optional(arguments[1].toScalarType());
  return [self = arguments[0].toTensor(), type, out = results[0]]() mutable {
    at::sum_out(out, self, torch::IntArrayRef{}, /*keepdim=*/false, type);
  };
}

// Rows of a table.
bool fits_embedding(const Action& action) {
  const View *weight = view_at(action, 0), *indices = view_at(action, 1);
  return has_results(action, 1) && weight && indices && weight->sizes.size() == 2 && is_contiguous(*weight) &&
         is_contiguous(*indices) && indices->type == torch::kInt64 && is_contiguous(*action.results[0]);
}

Kernel make_embedding(Arguments arguments, Results results) {
  const auto weight = arguments[0].toTensor(), indices = arguments[1].toTensor();
  const auto row = static_cast<std::size_t>(weight.size(1)) * weight.element_size();
  return [weight, indices, row, out = results[0]] {
    const auto* from = static_cast<const char*>(weight.const_data_ptr());
    auto* to = static_cast<char*>(out.mutable_data_ptr());
    const auto* index = indices.const_data_ptr<int64_t>();
    const int64_t rows = weight.size(0);
    for (int64_t i = 0; i < indices.numel(); ++i, to += row) {
      TORCH_CHECK_INDEX(index[i] >= 0 && index[i] < rows, "index out of range in self");
      std::memcpy(to, from + static_cast<std::size_t>(index[i]) * row, row);
    }
  };
}

// Of LibTorch's sum, which has no variant for AVX-512; 0: not known.
int64_t vector_size() {
  const auto capability = at::get_cpu_capability();
  return capability == "AVX512" || capability == "AVX2" ? 8 : 0;
}

// Over the first dimensions of plain memory.
bool fits_sum_of_rows(const Action& action) {
  const View* self = view_at(action, 0);
  if (!is_plain_float(self) || !has_results(action, 1) || !value_at(action, 1).isIntList() ||
      !value_at(action, 3).isNone()) {
    return false;
  }
  auto dims = value_at(action, 1).toIntVector();
  std::ranges::sort(dims);
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != static_cast<int64_t>(i)) return false;
  }
  if (dims.empty() || dims.size() >= self->sizes.size()) return false;
  int64_t columns = 1;
  for (std::size_t i = dims.size(); i < self->sizes.size(); ++i) columns *= self->sizes[i];
  // One column is summed up along memory, and several threads divide many columns: other orders.
  int64_t rows = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) rows *= self->sizes[i];
  const bool is_of_one_thread = at::get_num_threads() == 1 || rows * columns < at::internal::GRAIN_SIZE;
  return columns > 1 && rows > 1 && is_of_one_thread && vector_size() > 0 && is_plain_float(&*action.results[0]);
}

Kernel make_sum_of_rows(Arguments arguments, Results results) {
  const auto self = arguments[0].toTensor();
  const int64_t columns = results[0].numel();
  return [self, columns, out = results[0]] {
    sum_rows(self.const_data_ptr<float>(), columns == 0 ? 0 : self.numel() / columns, columns, vector_size(),
             out.mutable_data_ptr<float>());
  };
}

// --- Products ---

bool fits_addmm(const Action& action) {
  const View* bias = view_at(action, 0);
  const auto is_one = [](const c10::IValue& value) { return value.isScalar() && value.toScalar().toDouble() == 1; };
  return is_plain_float(bias) && bias->sizes.size() == 1 && has_results(action, 1) &&
         is_plain_float(&*action.results[0]) && action.results[0]->sizes[1] == bias->sizes[0] &&
         view_at(action, 1)->type == torch::kFloat32 && is_one(value_at(action, 3)) && is_one(value_at(action, 4));
}

Kernel make_addmm(Arguments arguments, Results results) {
  return make_product(arguments[1].toTensor(), arguments[2].toTensor(), arguments[0].toTensor(), results[0]);
}

// Of matrices, or of as many as the first dimension says.
bool fits_mm(const Action& action) {
  return has_results(action, 1) && is_plain_float(&*action.results[0]) && view_at(action, 0) && view_at(action, 1);
}

Kernel make_mm(Arguments arguments, Results results) {
  return make_product(arguments[0].toTensor(), arguments[1].toTensor(), torch::Tensor(), results[0]);
}

constexpr std::array<Substitute, 15> substitutes = {{
    {"aten::addmm", fits_addmm, make_addmm},
    {"aten::mm", fits_mm, make_mm},
    {"aten::bmm", fits_mm, make_mm},
    {"aten::sum.dim_IntList", fits_sum_of_rows, make_sum_of_rows},
    {"aten::max_pool2d_with_indices", fits_max_pool, make_max_pool},
    {"aten::bernoulli_.float", fits_bernoulli, make_bernoulli},
    {"aten::relu", fits_relu, make_relu},
    {"aten::mul.Scalar", fits_with_number, make_mul},
    {"aten::div.Scalar", fits_with_number, make_div},
    {"aten::add.Scalar", fits_with_number, make_add},
    {"aten::sub.Scalar", fits_with_number, make_sub},
    {"aten::clone", fits_copy, make_copy},
    {"aten::_to_copy", fits_copy, make_copy},
    {"aten::sum", fits_sum, make_sum},
    {"aten::embedding", fits_embedding, make_embedding},
}};

const Substitute* find(const Action& action) {
  if (!action.op) return nullptr;
  for (const auto& each : substitutes) {
    if (each.name == action.name && each.fits(action)) return &each;
  }
  return nullptr;
}

}  // namespace

bool has_substitute(const Action& action) {
  return find(action) != nullptr;
}

Kernel substitute(const Action& action, std::vector<c10::IValue> arguments, std::vector<torch::Tensor> results) {
  return find(action)->make(std::move(arguments), std::move(results));
}

bool ignores_values(const Action& action) {
  constexpr std::array<std::string_view, 6> names = {"aten::ones_like", "aten::zeros_like", "aten::full_like",
                                                     "aten::new_ones",  "aten::new_zeros",  "aten::new_full"};
  return std::ranges::find(names, std::string_view(action.name)) != names.end();
}

}  // namespace troupe::capture
