// Operators: activations, arithmetic, reductions, shapes, indices, new tensors.
#pragma once

#include "tests/runtime/export/export_cases.hpp"

namespace troupe {

inline void add_activations(ExportCases& add) {
  namespace nn = torch::nn;
  namespace F = torch::nn::functional;
  add.layer("relu", {6}, nn::ReLU());
  add.layer("relu_in_place", {6}, nn::ReLU(nn::ReLUOptions(true)));
  add.layer("relu6", {6}, nn::ReLU6());
  add.layer("leaky_relu", {6}, nn::LeakyReLU(nn::LeakyReLUOptions().negative_slope(0.2)));
  add.layer("rrelu", {6}, nn::RReLU());
  add.layer("elu", {6}, nn::ELU(nn::ELUOptions().alpha(0.7)));
  add.layer("selu", {6}, nn::SELU());
  add.layer("celu", {6}, nn::CELU(nn::CELUOptions().alpha(0.7)));
  add.layer("gelu", {6}, nn::GELU());
  add.function("gelu_tanh", {6}, [](const torch::Tensor& x) { return at::gelu(x, "tanh"); });
  add.layer("silu", {6}, nn::SiLU());
  add.layer("mish", {6}, nn::Mish());
  add.layer("sigmoid", {6}, nn::Sigmoid());
  add.layer("tanh", {6}, nn::Tanh());
  add.layer("softplus", {6}, nn::Softplus(nn::SoftplusOptions().beta(2).threshold(1)));
  add.layer("softsign", {6}, nn::Softsign());
  add.layer("hardtanh", {6}, nn::Hardtanh(nn::HardtanhOptions().min_val(-0.5).max_val(0.7)));
  add.function("hardsigmoid", {6}, [](const torch::Tensor& x) { return at::hardsigmoid(x * 3); });
  add.function("hardswish", {6}, [](const torch::Tensor& x) { return at::hardswish(x * 3); });
  add.layer("hardshrink", {6}, nn::Hardshrink());
  add.layer("softshrink", {6}, nn::Softshrink());
  add.layer("tanhshrink", {6}, nn::Tanhshrink());
  add.layer("threshold", {6}, nn::Threshold(0.1, 20));
  add.layer("log_sigmoid", {6}, nn::LogSigmoid());
  add.layer("prelu", {6}, nn::PReLU());
  add.layer("prelu_channels", {3, 4, 4}, nn::PReLU(nn::PReLUOptions().num_parameters(3).init(0.1)));
  add.layer("glu", {6}, nn::GLU());
  add.layer("softmax", {4, 6}, nn::Softmax(1));
  add.layer("log_softmax", {4, 6}, nn::LogSoftmax(-1));
  add.function("softmax_dtype", {6}, [](const torch::Tensor& x) { return torch::softmax(x, 1, torch::kFloat64); });
  add.layer("dropout", {6}, nn::Dropout(0.5));
  add.layer("dropout2d", {3, 4, 4}, nn::Dropout2d(0.5));
  add.layer("alpha_dropout", {6}, nn::AlphaDropout(0.5));
  add.layer("feature_alpha_dropout", {3, 6}, nn::FeatureAlphaDropout(0.5));
  add.function("clamp", {6}, [](const torch::Tensor& x) {
    return torch::clamp(x, -0.5, 0.5) + x.clamp_min(0.1) + x.clamp_max(0.2) + torch::clamp(x, {}, 0.3) +
           torch::clamp(x, x.new_zeros({6}), torch::Tensor(x.new_ones({6})));
  });
}

inline void add_unary(ExportCases& add) {
  using Function = torch::Tensor (*)(const torch::Tensor&);
  const std::pair<const char*, Function> everywhere[] = {
      {"abs", torch::abs},     {"neg", torch::neg},     {"exp", torch::exp},       {"exp2", torch::exp2},
      {"expm1", torch::expm1}, {"erf", torch::erf},     {"sin", torch::sin},       {"cos", torch::cos},
      {"tan", torch::tan},     {"sinh", torch::sinh},   {"cosh", torch::cosh},     {"atan", torch::atan},
      {"asinh", torch::asinh}, {"floor", torch::floor}, {"ceil", torch::ceil},     {"trunc", torch::trunc},
      {"frac", torch::frac},   {"sign", torch::sign},   {"square", torch::square}, {"positive", torch::positive},
      {"isnan", torch::isnan}, {"isinf", torch::isinf}, {"alias", torch::alias},   {"detach", torch::detach}};
  for (const auto& [name, function] : everywhere) add.function(name, {6}, function);
  const std::pair<const char*, Function> positive[] = {{"sqrt", torch::sqrt},
                                                       {"rsqrt", torch::rsqrt},
                                                       {"log", torch::log},
                                                       {"log2", torch::log2},
                                                       {"log10", torch::log10},
                                                       {"log1p", torch::log1p},
                                                       {"reciprocal", torch::reciprocal}};
  for (const auto& [name, function] : positive) {
    add.function(name, {6}, [function](const torch::Tensor& x) { return function(x.abs() + 0.1); });
  }
  const std::pair<const char*, Function> within_one[] = {
      {"asin", torch::asin}, {"acos", torch::acos}, {"atanh", torch::atanh}};
  for (const auto& [name, function] : within_one) {
    add.function(name, {6}, [function](const torch::Tensor& x) { return function(x.tanh() * 0.9); });
  }
  add.function("acosh", {6}, [](const torch::Tensor& x) { return torch::acosh(x.abs() + 1.1); });
  add.function("round", {6},
               [](const torch::Tensor& x) { return torch::round(x * 2) + torch::round(x.round() * 0.5); });
}

inline torch::Tensor whole_numbers(int64_t batch) {
  return torch::arange(batch * 6).view({batch, 6}).remainder(11) - 5;
}

inline void add_arithmetic(ExportCases& add) {
  const auto row = torch::tensor({-2.f, -1.f, 0.5f, 1.5f, 2.f, 3.f});
  const auto whole = torch::tensor({-3, -2, 2, 3, 4, 5}, torch::kLong);
  add.function("add", {6}, [=](const torch::Tensor& x) { return (x + row + 1).add(x, 0.5) + whole; });
  add.function("sub", {6}, [=](const torch::Tensor& x) { return (x - row - 1).sub(x, 2) - whole; });
  add.function("rsub", {6}, [=](const torch::Tensor& x) { return torch::rsub(x, row, 2) + (1 - x); });
  add.function("mul", {6}, [=](const torch::Tensor& x) { return x * row * 2 * whole; });
  add.function("add_and_mul_logical", {6}, [=](const torch::Tensor& x) { return ((x > 0) + (row > 0)) * (x < 1); });
  add.function("div", {6}, [=](const torch::Tensor& x) {
    return x / row / 3 + torch::div(x * 5, row, "floor") + torch::div(x * 5, row, "trunc");
  });
  add.function("div_whole", whole_numbers, [=](const torch::Tensor& x) {
    return torch::stack({x / whole, torch::div(x, whole, "floor").to(torch::kFloat),
                         torch::div(x, whole, "trunc").to(torch::kFloat), torch::floor_divide(x, 3).to(torch::kFloat),
                         torch::remainder(x, whole).to(torch::kFloat), torch::fmod(x, whole).to(torch::kFloat)});
  });
  add.function("floor_divide", {6}, [=](const torch::Tensor& x) { return torch::floor_divide(x * 7, row); });
  add.function("remainder", {6},
               [=](const torch::Tensor& x) { return torch::remainder(x * 7, row) + (x * 7).remainder(2); });
  add.function("fmod", {6}, [=](const torch::Tensor& x) { return torch::fmod(x * 7, row) + torch::fmod(x * 7, 2); });
  add.function("pow", {6}, [=](const torch::Tensor& x) {
    return x.pow(2) + x.abs().pow(row) + torch::pow(2, x) + torch::pow(x, whole.abs());
  });
  add.function("maximum", {6}, [=](const torch::Tensor& x) { return torch::maximum(x, row) + torch::minimum(x, row); });
  add.function("max_of_two", {6}, [=](const torch::Tensor& x) { return torch::max(x, row) + torch::min(x, row); });
  add.function("addcmul", {6}, [=](const torch::Tensor& x) {
    return torch::addcmul(x, row, x, 0.5) + torch::addcdiv(x, x, row, 2) + torch::addcmul(x, row, row);
  });
  add.function("lerp", {6},
               [=](const torch::Tensor& x) { return torch::lerp(x, row, 0.3) + torch::lerp(x, row, row); });
  add.function("comparisons", {6}, [=](const torch::Tensor& x) {
    return torch::stack(
        {x<row, x <= 0, x> row, x >= 0.5, x == row, x != row, (x > 0) == (row > 0), (x > 0) < (row > 0)});
  });
  add.function("comparisons_whole", whole_numbers, [=](const torch::Tensor& x) {
    return torch::stack({x<whole, x <= 0.5, x> row, x == 2, x != 2.5});
  });
  add.function("logic", {6}, [=](const torch::Tensor& x) {
    const auto a = x > 0, b = x < row;
    return torch::stack({torch::logical_and(a, b), torch::logical_or(x, b), torch::logical_xor(a, b),
                         torch::logical_not(x), a & b, a | b, a ^ b, ~a, torch::bitwise_and(a, b),
                         torch::bitwise_or(a, b), torch::bitwise_xor(a, b)});
  });
  add.function("bits", whole_numbers, [](const torch::Tensor& x) { return ((x & 3) | 4) ^ ~x; });
  add.cases.back().oldest_opset = 18;
  add.function("types", {6}, [](const torch::Tensor& x) {
    return x.to(torch::kLong).to(torch::kFloat64).to(x) + x.type_as(x) + (x > 0).to(torch::kInt).to(torch::kFloat);
  });
  add.function("copies", {6}, [](const torch::Tensor& x) { return x.contiguous().clone() + x.t().contiguous().t(); });
  add.function("in_place", {6}, [](const torch::Tensor& x) {
    auto y = x * 2;
    y += 1;
    y.mul_(x).clamp_(-1, 1);
    auto z = torch::empty_like(y).copy_(y);
    z.fill_(3);
    return y.masked_fill_(x > 1, 7) + z + torch::zeros_like(x).zero_();
  });
}

inline void add_reductions(ExportCases& add) {
  const std::vector<int64_t> sizes{4, 3};
  add.function("sum", sizes, [](const torch::Tensor& x) {
    return x.sum(1) + x.sum({1}, true).squeeze(1) + x.sum() + x.sum(1, false, torch::kFloat64);
  });
  add.function("sum_whole", whole_numbers, [](const torch::Tensor& x) { return x.sum(1) + (x > 0).sum(1); });
  add.function("mean", sizes, [](const torch::Tensor& x) { return x.mean({1, 2}) + x.mean(); });
  add.function("prod", sizes, [](const torch::Tensor& x) { return x.prod(1) + x.prod(); });
  add.function("amax", sizes, [](const torch::Tensor& x) { return x.amax({1, -1}) + x.amin(1, true).sum({1, 2}); });
  add.function("max", sizes, [](const torch::Tensor& x) {
    auto [values, places] = x.max(1);
    auto [low, low_places] = x.min(2, true);
    return torch::cat({values + places, (low + low_places).squeeze(2), (x.max() + x.min()).expand({x.size(0), 1})}, 1);
  });
  add.function("argmax", sizes, [](const torch::Tensor& x) { return x.argmax(1) + x.argmin(1) + x[0].argmax(); });
  add.function("argmax_kept", sizes, [](const torch::Tensor& x) { return x.argmax(2, true) + x[0].argmin({}, true); });
  add.function("any_all", sizes, [](const torch::Tensor& x) {
    return torch::stack({(x > 1).any(1), (x < 1).all(1), (x > 1).any().expand({x.size(0), 3})});
  });
  add.function("norm", sizes, [](const torch::Tensor& x) {
    return x.norm(2, 1) + x.norm(1, {1}, false) + x.norm(3, 1) + x.norm() + at::linalg_vector_norm(x, INFINITY, 1) +
           at::linalg_vector_norm(x, -INFINITY, 1) + at::linalg_vector_norm(x, 0, 1) + at::frobenius_norm(x, 1) +
           at::linalg_norm(x, std::nullopt, 1);
  });
  add.function("var", sizes, [](const torch::Tensor& x) {
    return x.var(1) + x.std(1, false) + x.var({1, 2}).unsqueeze(1) + x.std() + x.var({0}, int64_t{0}, true)[0].sum(0);
  });
  add.function("logsumexp", sizes, [](const torch::Tensor& x) { return torch::logsumexp(x, {1}); });
  add.function("cumsum", sizes, [](const torch::Tensor& x) { return x.cumsum(1) + (x > 0).cumsum(2); });
  add.function("topk", sizes, [](const torch::Tensor& x) {
    auto [values, places] = x.topk(2, 1);
    auto [low, low_places] = x.topk(1, 1, false);
    return torch::cat({values + places, low + low_places}, 1);
  });
  add.function("sort", sizes, [](const torch::Tensor& x) {
    auto [values, places] = x.sort(1, true);
    return values + places;
  });
  add.function("reduced_scalar", {2}, [](const torch::Tensor& x) {
    const auto one = x.sum();
    return x + one.sum() + one.mean() + one.amax() + torch::softmax(one, 0) + torch::log_softmax(one, 0);
  });
}

inline void add_shapes(ExportCases& add) {
  const std::vector<int64_t> sizes{4, 6};
  // The tracer sees x.size(0) as a number; the exported models must not.
  add.function("view", sizes, [](const torch::Tensor& x) {
    return x.view({x.size(0), 2, 2, -1}) + x.view({-1, 2, 2, 6});
  });
  add.function("view_batch_in_product", sizes, [](const torch::Tensor& x) {
    return x.reshape({x.size(0) * 4, 6}).reshape({x.size(0), 3, x.numel() / x.size(0) / 3});
  });
  add.function("view_as", sizes, [](const torch::Tensor& x) {
    const auto y = x.transpose(1, 2).contiguous();
    return x.view_as(y) + x.reshape_as(y) + at::_unsafe_view(x, {x.size(0), 6, 4});
  });
  add.function("flatten", {2, 3, 4}, [](const torch::Tensor& x) {
    return x.flatten(1) + x.flatten(2).flatten(1) + x.flatten(0, 1).flatten(1).view({x.size(0), 24});
  });
  add.function("flatten_all", sizes,
               [](const torch::Tensor& x) { return x.flatten() + x.ravel() + x.sum().flatten(); });
  add.function("unflatten", sizes, [](const torch::Tensor& x) {
    return x.unflatten(2, {2, 3}).flatten(1, 2).unflatten(-2, {4, 2});
  });
  add.function("permute", sizes, [](const torch::Tensor& x) { return x.permute({2, 0, -2}).permute({1, 0, 2}); });
  add.function("transpose", sizes, [](const torch::Tensor& x) {
    return x.transpose(1, -1) + x.mT() + x.swapaxes(1, 2) + x.movedim({2}, {1}) + x.movedim(1, 2) + x.swapdims(-1, 1);
  });
  add.function("t", {3}, [](const torch::Tensor& x) { return x.t().contiguous().numpy_T() + x.moveaxis(0, 1).t(); });
  add.function("squeeze", {1, 4, 1}, [](const torch::Tensor& x) {
    return x.squeeze() + x.squeeze(1).squeeze(-1) + x.squeeze({1, 3}) + x.squeeze(2).squeeze(1).squeeze(-1);
  });
  add.cases.back().samples.pop_back();  // squeeze() of a batch of one takes that axis too
  add.function("unsqueeze", sizes, [](const torch::Tensor& x) { return x.unsqueeze(0).unsqueeze(-1).squeeze(0); });
  add.function("expand", {1, 3}, [](const torch::Tensor& x) {
    return x.expand({x.size(0), 2, 3}) + x.expand({-1, 2, -1}) + x.broadcast_to({x.size(0), 2, 3}) +
           x.expand_as(torch::ones({x.size(0), 2, 3})) + torch::ones({3}).expand({x.size(0), 2, 3});
  });
  add.function("repeat", {2, 3}, [](const torch::Tensor& x) { return x.repeat({1, 2, 1}) + x.tile({2, 1}); });
  add.function("repeat_outside", {3}, [](const torch::Tensor& x) { return x.repeat({2, 1, 2}).transpose(0, 1); });
  add.function("cat", {2, 3}, [](const torch::Tensor& x) {
    return torch::cat({x, x * 2, torch::ones({x.size(0), 1, 3}, torch::kLong), x}, 1) +
           torch::concat({torch::zeros({0}), x, x, x, x.narrow(1, 0, 1)}, -2);
  });
  add.function("stack", {2, 3}, [](const torch::Tensor& x) {
    return torch::stack({x, x * 2}, 1) + torch::stack({x, x}, -2).sum(2, true);
  });
  add.function("split", {7, 3}, [](const torch::Tensor& x) {
    const auto parts = x.split(3, 1);
    const auto others = x.split_with_sizes({2, 4, 1}, 1);
    return torch::cat({parts[2], others[1], parts[0]}, 1);
  });
  add.function("split_more", {7, 3}, [](const torch::Tensor& x) {
    const auto parts = at::unsafe_split(x, 3, 1);
    const auto others = at::unsafe_split_with_sizes(x, {2, 5}, 1);
    const auto listed = at::split(x, at::IntArrayRef{3, 4}, 1);
    return torch::cat({parts[2], others[1], listed[0], x.split(7, 1)[0]}, 1);
  });
  add.function("chunk", {7, 3}, [](const torch::Tensor& x) {
    const auto parts = x.chunk(3, 1);
    return torch::cat({parts[2], parts[0], at::unsafe_chunk(x, 2, 1)[1]}, 1);
  });
  add.function("unbind", {3, 4}, [](const torch::Tensor& x) {
    const auto parts = x.unbind(1);
    return parts[0] * parts[2];
  });
  add.function("flip", sizes, [](const torch::Tensor& x) { return x.flip({1, -1}); });
  add.function("roll", sizes, [](const torch::Tensor& x) { return x.roll({1, -2}, {1, 2}).roll(4, 1); });
  add.function("pad", {3, 4, 5}, [](const torch::Tensor& x) {
    namespace F = torch::nn::functional;
    return F::pad(x, F::PadFuncOptions({1, 2, 0, 1}).value(3)) +
           F::pad(x, F::PadFuncOptions({1, 2, 0, 1}).mode(torch::kReflect)) +
           F::pad(x, F::PadFuncOptions({1, 2, 0, 1}).mode(torch::kReplicate)) +
           torch::constant_pad_nd(x, {1, 2, 0, 1}) + at::pad(x, {1, 2, 0, 1});
  });
  add.function("pad_cut", {3, 4, 5}, [](const torch::Tensor& x) {
    return torch::constant_pad_nd(x, {-1, 1, 0, -1}, 2);
  });
  add.function("pad_kinds", {2, 4, 4, 4}, [](const torch::Tensor& x) {
    return at::reflection_pad3d(x, {1, 1, 0, 1, 1, 0}) + at::replication_pad3d(x, {1, 1, 0, 1, 1, 0}) +
           at::reflection_pad2d(x[0], {1, 1, 0, 1}).sum() + at::replication_pad2d(x[0], {1, 1, 0, 1}).sum() +
           at::reflection_pad1d(x[0][0], {1, 1}).sum() + at::replication_pad1d(x[0][0], {1, 1}).sum();
  });
  add.function("pixel_shuffle", {8, 3, 3}, [](const torch::Tensor& x) { return torch::pixel_shuffle(x, 2); });
}

inline void add_indexing(ExportCases& add) {
  using torch::indexing::Ellipsis;
  using torch::indexing::None;
  using torch::indexing::Slice;
  const std::vector<int64_t> sizes{5, 4};
  add.function("slice", sizes, [](const torch::Tensor& x) {
    return x.index({Ellipsis, Slice(1, 4, 2)}).narrow(1, -3, 2) + x.slice(1, 0, 4, 2).slice(2, -2);
  });
  add.function("slice_batch", sizes,
               [](const torch::Tensor& x) { return x.slice(0, 0, x.size(0)) + x.narrow(0, 0, x.size(0)); });
  add.function("select", sizes, [](const torch::Tensor& x) {
    return x.select(1, -1) + x.index({Slice(), 0}) + x[x.size(0) - 1][0];
  });
  add.function("index", sizes, [](const torch::Tensor& x) {
    return x.index({Slice(), torch::tensor({0, -1, 2})}) + x.index({Slice(), None, 1});
  });
  const auto rows = torch::tensor({{0, 1}, {4, -1}}), columns = torch::tensor({3, 0});
  add.function("index_several", sizes, [=](const torch::Tensor& x) {
    const auto y = x.unsqueeze(3).expand({x.size(0), 5, 4, 2});
    return y.index({Slice(), rows, columns}) +
           y.index({Slice(), rows, Slice(), torch::tensor({0, 1})}).sum(3, true).permute({2, 0, 1, 3});
  });
  add.function("index_first", sizes, [=](const torch::Tensor& x) {
    return x.transpose(0, 1).index({rows, torch::zeros({2}, torch::kLong)});
  });
  add.function("index_select", sizes, [](const torch::Tensor& x) {
    return x.index_select(1, torch::tensor({4, 0, 0}));
  });
  add.function("gather", sizes, [](const torch::Tensor& x) { return x.gather(2, std::get<1>(x.topk(3, 2))); });
  add.function("masked_fill", sizes, [](const torch::Tensor& x) {
    return x.masked_fill(x > 0, -1)
        .masked_fill(torch::ones({5, 4}, torch::kBool).triu(0).logical_not(), -INFINITY)
        .clamp(-9, 9);
  });
  add.function("where", sizes, [](const torch::Tensor& x) {
    return torch::where(x > 0, x, x * 2) + torch::where(x > 1, 1.0, x) + torch::where(x > 1, x, 0.5) +
           torch::where(x.sum(1, true) > 0, 1.0, 2.0);
  });
  add.function("triangles", sizes, [](const torch::Tensor& x) {
    return x.tril() + x.triu(1) + torch::ones({5, 4}, torch::kBool).tril(-1) + torch::ones({5, 4}, torch::kInt).triu();
  });
}

inline void add_creation(ExportCases& add) {
  add.function("new_tensors", {4}, [](const torch::Tensor& x) {
    const auto n = x.size(0);
    return x + torch::zeros({n, 4}) + torch::ones({n, 1}) + torch::full({n, 4}, 2.5) + torch::zeros_like(x) +
           torch::ones_like(x) + torch::full_like(x, 3) + x.new_zeros({n, 4}) + x.new_ones({4}) +
           x.new_full({n, 4}, 0.5) + torch::ones_like(torch::empty({n, 4})) + torch::zeros_like(x.new_empty({n, 4}));
  });
  add.function("arange", {4}, [](const torch::Tensor& x) {
    const auto n = x.size(0);
    return x + torch::arange(n).unsqueeze(1) + torch::arange(1, 5) + torch::arange(0, 2, 0.5) + torch::full({}, n) +
           torch::arange(0, 2 * n, 2).unsqueeze(1) / n;
  });
  add.function("computed_when_exported", {4}, [](const torch::Tensor& x) {
    return x + torch::linspace(0, 1, 4) + torch::eye(4).sum(0) + torch::tensor({1.f, 2.f, 3.f, 4.f}).diag().sum(1);
  });
}

inline std::vector<ExportCase> operator_cases() {
  torch::manual_seed(2);
  ExportCases add;
  add_activations(add);
  add_unary(add);
  add_arithmetic(add);
  add_reductions(add);
  add_shapes(add);
  add_indexing(add);
  add_creation(add);
  return std::move(add.cases);
}

}  // namespace troupe
