// Images of other sizes, and samples of images at given places.
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_sizes.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace troupe {

namespace {

using ResizeFactors = std::vector<std::optional<double>>;

/// The factor of each axis, if LibTorch was given one: it then takes coordinates by the factor, not by the sizes.
ResizeFactors resize_factors(OnnxCall& call, std::size_t dims) {
  if (call.given("scale_factors")) {
    ResizeFactors factors;
    const auto& value = call.value("scale_factors");
    for (const auto& element : value.list) factors.emplace_back(element.constant.toDouble());
    if (value.kind == OnnxValue::Kind::constant) {
      for (const double factor : value.constant.toDoubleVector()) factors.emplace_back(factor);
    }
    return factors;
  }
  static const std::vector<const char*> names[] = {
      {"scales"}, {"scales_h", "scales_w"}, {"scales_d", "scales_h", "scales_w"}};
  ResizeFactors factors;
  for (const auto* name : names[dims - 1]) {
    factors.push_back(call.given(name) ? std::optional(call.number(name)) : std::nullopt);
  }
  return factors;
}

/// As float32, not below `factor`: the size is the product rounded down, and must not become one less.
float float_not_below(double factor) {
  const auto rounded = static_cast<float>(factor);
  return rounded < factor ? std::nextafter(rounded, std::numeric_limits<float>::infinity()) : rounded;
}

struct ResizeMode {
  const char* name;       ///< of ONNX: nearest, linear, cubic
  bool is_exact = false;  ///< nearest-exact: pixels are areas, not points
  bool is_antialiased = false;
};

OnnxAttributes resize_attributes(OnnxCall& call, const ResizeMode& mode) {
  const std::string name = mode.name;
  const bool aligns = call.takes("align_corners") && call.flag("align_corners");
  std::string transformation = aligns ? "align_corners" : "half_pixel";
  if (name == "nearest" && !mode.is_exact) transformation = "asymmetric";
  OnnxAttributes attributes{{"mode", name}, {"coordinate_transformation_mode", transformation}};
  if (name == "nearest") {
    attributes.emplace_back("nearest_mode", std::string(mode.is_exact ? "round_prefer_ceil" : "floor"));
  }
  // LibTorch takes Pillow's coefficient where it filters as Pillow does.
  if (name == "cubic") attributes.emplace_back("cubic_coeff_a", mode.is_antialiased ? -0.5 : -0.75);
  if (mode.is_antialiased) {
    attributes.emplace_back("antialias", int64_t{1});
    attributes.emplace_back("exclude_outside", int64_t{1});
  }
  return attributes;
}

/// floor(size * factor), as LibTorch computes it.
OnnxInt resized_size(OnnxBuilder& b, const OnnxInt& size, double factor) {
  if (size.is_fixed()) return {static_cast<int64_t>(std::floor(static_cast<double>(size.value) * factor)), ""};
  if (factor == std::floor(factor)) return product_of(b, size, {static_cast<int64_t>(factor), ""});
  const auto exact =
      b.add("Mul", {b.cast(size.name, torch::kInt64, torch::kFloat64), b.scalar(factor, torch::kFloat64)});
  return {0, b.cast(b.add("Floor", {exact}), torch::kFloat64, torch::kInt64)};
}

std::vector<OnnxInt> resized_sizes(OnnxCall& call, const OnnxTensor& x, const ResizeFactors& factors) {
  std::vector<OnnxInt> sizes;
  if (call.given("output_size")) sizes = call.sizes("output_size");
  for (std::size_t d = sizes.size(); d < factors.size(); ++d) {
    if (!factors[d]) call.refuse("it has neither a size nor a factor");
    sizes.push_back(resized_size(call.b, call.b.size_of(x, static_cast<int64_t>(d) + 2), *factors[d]));
  }
  sizes.insert(sizes.begin(), {call.b.size_of(x, 0), call.b.size_of(x, 1)});
  return sizes;
}

void resize(OnnxCall& call, const ResizeMode& mode) {
  if (mode.is_antialiased && call.b.opset_version() < 18)
    call.refuse("it needs opset_version 18, whose Resize filters");
  const auto x = call.tensor(call.takes("self") ? "self" : "input");
  const auto factors = resize_factors(call, static_cast<std::size_t>(x.rank()) - 2);
  const auto attributes = resize_attributes(call, mode);
  const bool aligns = call.takes("align_corners") && call.flag("align_corners");
  // A whole factor is the ratio of the sizes; aligned corners know no factor.
  if (aligns || std::ranges::all_of(factors, [](const auto& f) { return !f || *f == std::floor(*f); })) {
    const auto sizes = call.b.ints(resized_sizes(call, x, factors));
    return call.returns(call.b.add("Resize", {x.name, "", "", sizes}, attributes));
  }
  std::vector<float> scales{1, 1};
  for (const auto& factor : factors) {
    if (!factor) call.refuse("it has a factor for some axes only");
    scales.push_back(float_not_below(*factor));
  }
  call.returns(call.b.add("Resize", {x.name, "", call.b.constant(torch::tensor(scales))}, attributes));
}

/// Samples at places between -1 and 1: [N, C, D?, H, W] at [N, ..., 2 or 3].
void grid_sampler(OnnxCall& call) {
  const auto x = call.tensor("input");
  const bool is_new = call.b.opset_version() >= 20;
  if (x.rank() == 5 && !is_new) call.refuse("its input has 5 dimensions, which needs opset_version 20");
  static const char* const old_modes[] = {"bilinear", "nearest", "bicubic"};
  static const char* const modes[] = {"linear", "nearest", "cubic"};
  static const char* const paddings[] = {"zeros", "border", "reflection"};
  const auto mode = call.integer("interpolation_mode"), padding = call.integer("padding_mode");
  if (mode < 0 || mode > 2 || padding < 0 || padding > 2) call.refuse("its mode is unknown");
  call.returns(call.b.add("GridSample", {x.name, call.tensor("grid").name},
                          {{"mode", std::string(is_new ? modes[mode] : old_modes[mode])},
                           {"padding_mode", std::string(paddings[padding])},
                           {"align_corners", int64_t{call.flag("align_corners")}}}));
}

}  // namespace

void add_onnx_resizing(OnnxOperators& operators) {
  const auto add = [&](const std::string& name, const ResizeMode& mode) {
    operators[name] = [mode](OnnxCall& call) { resize(call, mode); };
  };
  for (const auto* dims : {"1d", "2d", "3d"}) {
    add(std::string("upsample_nearest") + dims, {"nearest"});
    add(std::string("_upsample_nearest_exact") + dims, {"nearest", /*is_exact=*/true});
  }
  for (const auto* name : {"upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"}) add(name, {"linear"});
  add("upsample_bicubic2d", {"cubic"});
  add("_upsample_bilinear2d_aa", {"linear", false, /*is_antialiased=*/true});
  add("_upsample_bicubic2d_aa", {"cubic", false, /*is_antialiased=*/true});
  operators["grid_sampler"] = grid_sampler;
}

}  // namespace troupe
