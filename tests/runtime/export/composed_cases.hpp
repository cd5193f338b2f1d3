// Operators that ONNX has no counterpart of, or one with other rules: exported as several.
#pragma once

#include "tests/runtime/export/export_cases.hpp"

namespace troupe {

/// Like ExportCases::function, with sizes of other axes that change too.
inline void free_sizes(ExportCases& add, const std::string& name, const std::vector<std::vector<int64_t>>& samples,
                       const std::map<int64_t, std::string>& axes, Net::Function function) {
  ExportCase one{name, std::make_shared<Net>(std::move(function)), {}, {}};
  for (const auto& sizes : samples) one.samples.push_back({torch::randn(sizes)});
  one.options.dynamic_axes["input"] = axes;
  add.cases.push_back(std::move(one));
}

inline torch::Tensor resized(const torch::Tensor& x, torch::nn::functional::InterpolateFuncOptions::mode_t mode,
                             const std::vector<double>& factor, std::optional<bool> aligns = std::nullopt,
                             bool antialias = false) {
  auto options = torch::nn::functional::InterpolateFuncOptions()
                     .scale_factor(factor)
                     .mode(mode)
                     .antialias(antialias)
                     .recompute_scale_factor(false);
  if (aligns) options.align_corners(aligns);
  return torch::nn::functional::interpolate(x, options);
}

inline void add_resizings(ExportCases& add) {
  namespace nn = torch::nn;
  const std::map<int64_t, std::string> image{{2, "height"}, {3, "width"}};
  const std::vector<std::vector<int64_t>> images{{2, 3, 6, 8}, {5, 3, 9, 7}, {1, 3, 4, 11}};
  add.layer("upsample_factor", {2, 3, 4}, nn::Upsample(nn::UpsampleOptions().scale_factor(std::vector<double>{2, 2})));
  add.function("upsample_nearest_factors", {2, 3, 4}, [](const torch::Tensor& x) {
    return resized(x, torch::kNearest, {2.5, 1.3});
  });
  add.function("upsample_nearest_exact", {2, 5, 4}, [](const torch::Tensor& x) {
    return resized(x, torch::kNearestExact, {1.7, 2}, false) + at::_upsample_nearest_exact2d(x, {8, 8}) +
           at::_upsample_nearest_exact1d(x[0], {8}).sum() +
           at::_upsample_nearest_exact3d(x.unsqueeze(1), {3, 8, 3}).sum();
  });
  add.function("upsample_linear_factors", {2, 6}, [](const torch::Tensor& x) {
    return resized(x, torch::kLinear, {1.5}, false) + resized(x, torch::kLinear, {1.5}, true);
  });
  add.function("upsample_bilinear_factors", {2, 5, 4}, [](const torch::Tensor& x) {
    return resized(x, torch::kBilinear, {1.7, 2.2}, false) + resized(x, torch::kBilinear, {1.7, 2.2}, true);
  });
  add.function("upsample_trilinear_factors", {2, 2, 3, 2}, [](const torch::Tensor& x) {
    return resized(x, torch::kTrilinear, {2, 1, 2}, false);
  });
  add.function("upsample_bicubic", {2, 5, 4}, [](const torch::Tensor& x) {
    return resized(x, torch::kBicubic, {1.7, 2}, false) + resized(x, torch::kBicubic, {1.7, 2}, true) +
           at::upsample_bicubic2d(x, {8, 8}, false);
  });
  add.function("upsample_factors_alone", {2, 5, 4}, [](const torch::Tensor& x) {
    return at::upsample_nearest2d(x, at::OptionalIntArrayRef(), at::ArrayRef<double>({2, 3})) +
           at::upsample_bilinear2d(x, at::OptionalIntArrayRef(), false, at::ArrayRef<double>({2.1, 3}));
  });
  add.function("upsample_antialias", {2, 8, 9}, [](const torch::Tensor& x) {
    return resized(x, torch::kBilinear, {0.5, 0.4}, false, true) + at::_upsample_bicubic2d_aa(x, {4, 3}, false);
  });
  add.cases.back().oldest_opset = 18;
  free_sizes(add, "upsample_free", images, image, [](const torch::Tensor& x) {
    return resized(x, torch::kNearest, {2, 2}) + resized(x, torch::kBilinear, {2, 2}, false) +
           resized(x, torch::kBilinear, {2, 2}, true) + resized(x, torch::kBicubic, {2, 2}, false);
  });
  free_sizes(add, "upsample_free_half", images, image, [](const torch::Tensor& x) {
    return resized(x, torch::kNearest, {1.5, 0.5}) + resized(x, torch::kBilinear, {1.5, 0.5}, false);
  });
  free_sizes(add, "upsample_free_odd_factors", images, image, [](const torch::Tensor& x) {
    return resized(x, torch::kNearest, {1.3, 2}) + resized(x, torch::kBilinear, {1.3, 2}, false) +
           resized(x, torch::kBilinear, {1.3, 2}, true) + resized(x, torch::kBicubic, {1.3, 2}, false);
  });
  free_sizes(add, "upsample_free_to_size", images, image, [](const torch::Tensor& x) {
    const auto size = std::vector<int64_t>{x.size(2) + 3, 2 * x.size(3)};
    return at::upsample_bilinear2d(x, size, false) + at::upsample_nearest2d(x, at::IntArrayRef{9, 10}).mean();
  });
}

inline void add_adaptive_poolings(ExportCases& add) {
  namespace nn = torch::nn;
  const std::map<int64_t, std::string> image{{2, "height"}, {3, "width"}};
  const std::vector<std::vector<int64_t>> images{{2, 3, 6, 8}, {5, 3, 9, 7}, {1, 3, 4, 11}};
  add.layer("adaptive_avg_uneven1d", {3, 7}, nn::AdaptiveAvgPool1d(3));
  add.layer("adaptive_avg_uneven2d", {3, 7, 8}, nn::AdaptiveAvgPool2d(nn::AdaptiveAvgPool2dOptions({3, 4})));
  add.layer("adaptive_avg_larger", {3, 2, 3}, nn::AdaptiveAvgPool2d(5));
  add.layer("adaptive_avg_uneven3d", {2, 5, 4, 3}, nn::AdaptiveAvgPool3d(nn::AdaptiveAvgPool3dOptions({2, 3, 2})));
  add.layer("adaptive_max_uneven1d", {3, 7}, nn::AdaptiveMaxPool1d(3));
  add.layer("adaptive_max_uneven2d", {3, 7, 8}, nn::AdaptiveMaxPool2d(nn::AdaptiveMaxPool2dOptions({5, 4})));
  add.layer("adaptive_max_uneven3d", {2, 5, 4, 3}, nn::AdaptiveMaxPool3d(nn::AdaptiveMaxPool3dOptions({2, 3, 2})));
  add.function("adaptive_unbatched", {3, 7},
               [](const torch::Tensor& x) { return at::adaptive_avg_pool1d(x[0], 2).sum() + x; });
  free_sizes(add, "adaptive_free", images, image, [](const torch::Tensor& x) {
    return at::adaptive_avg_pool2d(x, {3, 5}) + std::get<0>(at::adaptive_max_pool2d(x, {3, 5}));
  });
  free_sizes(add, "adaptive_free_kept", images, image, [](const torch::Tensor& x) {
    return at::adaptive_avg_pool2d(x, {3, x.size(3)});
  });
}

inline void add_batch_statistics(ExportCases& add) {
  namespace nn = torch::nn;
  nn::BatchNorm2d norm(nn::BatchNorm2dOptions(3).track_running_stats(false));
  nn::init::normal_(norm->weight);
  nn::init::normal_(norm->bias);
  add.layer("batch_norm_of_the_batch", {3, 4, 5}, norm);
  // One sample has no variance; LibTorch refuses it.
  add.layer("batch_norm_of_the_batch1d", {4},
            nn::BatchNorm1d(nn::BatchNorm1dOptions(4).affine(false).track_running_stats(false)));
  add.cases.back().samples.pop_back();
  add.function("batch_norm_training", {3, 4}, [](const torch::Tensor& x) {
    return torch::batch_norm(x, {}, {}, torch::zeros({3}), torch::ones({3}), true, 0.1, 1e-3, false);
  });
}

inline void add_windows(ExportCases& add) {
  namespace F = torch::nn::functional;
  const std::map<int64_t, std::string> image{{2, "height"}, {3, "width"}};
  const std::vector<std::vector<int64_t>> images{{2, 3, 6, 8}, {5, 3, 8, 6}, {1, 3, 4, 10}};
  const auto unfold = [](const torch::Tensor& x) {
    return F::unfold(x, F::UnfoldFuncOptions({2, 3}).padding({0, 1}).stride({2, 1}).dilation({1, 2}));
  };
  add.function("im2col", {3, 6, 8}, unfold);
  add.function("im2col_unbatched", {3, 6, 8}, [=](const torch::Tensor& x) {
    return at::im2col(x[0], {2, 3}, {1, 2}, {0, 1}, {2, 1}).sum() + x;
  });
  free_sizes(add, "im2col_free", images, image, [](const torch::Tensor& x) {
    return at::im2col(x, {2, 3}, {1, 2}, {0, 1}, {1, 1});
  });
  add.function("col2im", {12, 20}, [](const torch::Tensor& x) {
    return F::fold(x, F::FoldFuncOptions({5, 6}, {2, 2})) +
           F::fold(x[0].unsqueeze(0), F::FoldFuncOptions({5, 6}, {2, 2})).squeeze(0);
  });
  add.function("col2im_unbatched", {8, 15}, [](const torch::Tensor& x) {
    return at::col2im(x[0], {5, 6}, {2, 2}, {2, 1}, {1, 0}, {1, 2}).sum() + x;
  });
  // The last rows and columns of pixels are in no window.
  add.function("col2im_rest", {12, 4}, [](const torch::Tensor& x) {
    return at::col2im(x, {6, 5}, {2, 3}, {1, 1}, {1, 2}, {4, 4});
  });
  add.function("col2im_whole", {4, 6}, [](const torch::Tensor& x) {
    return at::col2im(x.to(torch::kFloat64), {3, 4}, {2, 2}, {1, 1}, {0, 0}, {1, 1});
  });
  free_sizes(add, "col2im_free", images, image, [](const torch::Tensor& x) {
    const auto columns = at::im2col(x, {2, 3}, {1, 1}, {1, 0}, {1, 1});
    return at::col2im(columns * 2, {x.size(2), x.size(3)}, {2, 3}, {1, 1}, {1, 0}, {1, 1});
  });
  add.function("unfold", {5, 7},
               [](const torch::Tensor& x) { return x.unfold(2, 3, 2).unfold(1, 2, 3) + x.sum().unfold(0, 1, 1); });
  free_sizes(add, "unfold_free", {{2, 9}, {3, 12}, {1, 5}}, {{1, "time"}},
             [](const torch::Tensor& x) { return x.unfold(1, 4, 1).mean(2); });
}

inline void add_rearrangements(ExportCases& add) {
  const std::map<int64_t, std::string> image{{2, "height"}, {3, "width"}};
  const std::vector<std::vector<int64_t>> images{{2, 4, 6, 8}, {5, 4, 8, 6}, {1, 4, 4, 10}};
  add.function("pixel_unshuffle", {3, 4, 6}, [](const torch::Tensor& x) { return torch::pixel_unshuffle(x, 2); });
  free_sizes(add, "pixel_unshuffle_free", images, image,
             [](const torch::Tensor& x) { return torch::pixel_unshuffle(x, 2); });
  add.function("channel_shuffle", {6, 2, 3}, [](const torch::Tensor& x) {
    return torch::channel_shuffle(x, 3) + torch::native_channel_shuffle(x, 2);
  });
  free_sizes(add, "channel_shuffle_free", images, image,
             [](const torch::Tensor& x) { return torch::channel_shuffle(x, 2); });
  add.function("rot90", {4, 4}, [](const torch::Tensor& x) {
    return torch::rot90(x, 1, {1, 2}) + 2 * torch::rot90(x, 2, {1, 2}) + 3 * torch::rot90(x, -1, {1, 2}) +
           4 * torch::rot90(x, 0, {1, 2}) + 5 * torch::rot90(x, 1, {2, -2});
  });
  add.function("rot90_batch", {4}, [](const torch::Tensor& x) { return torch::rot90(x, 3).t(); });
  add.function("repeat_interleave", {3, 2}, [](const torch::Tensor& x) {
    return torch::cat({x.repeat_interleave(2, 1), x.repeat_interleave(torch::tensor({1, 0, 3}), 1),
                       x.repeat_interleave(torch::tensor({2}), -2)},
                      1);
  });
  add.function("repeat_interleave_flat", {3, 2}, [](const torch::Tensor& x) {
    return x.repeat_interleave(3).view({-1, 3}) + x.repeat_interleave(3, 0).view({-1, 3});
  });
  add.function("meshgrid", {3}, [](const torch::Tensor& x) {
    const auto row = torch::arange(4), rows = torch::arange(x.size(0));
    const auto ij = torch::meshgrid({x.sum(1), row.to(torch::kFloat)}, "ij");
    const auto xy = torch::meshgrid({row, rows}, "xy");
    return ij[0] * 2 + ij[1] + xy[0] * 3 + xy[1];
  });
  add.function("eye", {4}, [](const torch::Tensor& x) {
    const auto n = x.size(0);
    return torch::eye(n).matmul(x) + torch::eye(n, 4) + torch::eye(4, torch::kLong).sum();
  });
}

inline void add_special_functions(ExportCases& add) {
  const auto row = torch::tensor({-2.f, -0.f, 0.f, 1.5f, 2.f, -3.f});
  const auto zeros = torch::tensor({-0.f, 0.f, -0.f, 0.f, 1.f, -1.f});
  const auto infinite = torch::tensor({INFINITY, -INFINITY, NAN, 1.f, 0.f, -2.f});
  add.function("atan2", {6}, [=](const torch::Tensor& x) {
    return torch::stack({torch::atan2(x, row), torch::atan2(row, x), torch::arctan2(zeros + 0 * x, row),
                         torch::atan2(infinite + 0 * x, row), torch::atan2(x, infinite)});
  });
  add.function("atan2_zeros", {6}, [=](const torch::Tensor& x) {
    const auto none = x.abs() * 0;
    return torch::atan2(zeros * (none + 1), row * (none + 1)) + torch::atan2(zeros * (none + 1), -row);
  });
  add.function("hypot", {6}, [=](const torch::Tensor& x) {
    return torch::stack({torch::hypot(x, row), torch::hypot(zeros, row) + x, torch::hypot(x * 1e-30, row * 1e-30),
                         torch::hypot(x * 1e25, x * 1e25) * 1e-25, torch::hypot(infinite, x),
                         torch::hypot(infinite, infinite) + x});
  });
  add.function("logaddexp", {6}, [=](const torch::Tensor& x) {
    return torch::stack({torch::logaddexp(x * 50, row), torch::logaddexp2(x, row), torch::logaddexp(infinite, x),
                         torch::logaddexp(infinite, infinite) + x});
  });
  add.function("erfc", {6}, [](const torch::Tensor& x) { return torch::erfc(x) + torch::special::erfc(x * 2); });
  add.function("nan_to_num", {6}, [=](const torch::Tensor& x) {
    return torch::stack({torch::nan_to_num(x + infinite), torch::nan_to_num(x + infinite, 1, 2, -3),
                         torch::nan_to_num(x * infinite, 7)}) *
           1e-3;
  });
  add.function("nan_to_num_whole", {6},
               [](const torch::Tensor& x) { return torch::nan_to_num(x.to(torch::kLong)) + torch::nan_to_num(x); });
}

inline void add_more_reductions(ExportCases& add) {
  const std::vector<int64_t> sizes{4, 5};
  add.function("std_mean", sizes, [](const torch::Tensor& x) {
    const auto [deviation, mean] = torch::std_mean(x, 1);
    const auto [variance, kept] = torch::var_mean(x, {1, 2}, false, true);
    const auto [all, all_mean] = torch::std_mean(x, true);
    return deviation + mean * 2 + (variance + kept).squeeze(2) + all + all_mean + std::get<1>(torch::var_mean(x));
  });
  add.function("median", sizes, [](const torch::Tensor& x) {
    const auto [values, places] = x.median(1);
    const auto [kept, kept_places] = x.median(2, true);
    return torch::cat({values + places, (kept + kept_places).squeeze(2), x.median().expand({x.size(0), 1})}, 1);
  });
  free_sizes(add, "median_free", {{2, 6}, {3, 7}, {1, 4}}, {{1, "time"}},
             [](const torch::Tensor& x) { return std::get<0>(x.median(1)) + x.flatten().median(); });
  add.function("cumprod", sizes,
               [](const torch::Tensor& x) { return x.cumprod(1) + x.cumprod(-1) * 2 + x.to(torch::kLong).cumprod(2); });
  add.function("cumprod_batch", sizes, [](const torch::Tensor& x) { return x.cumprod(0) + x.sum().cumprod(0); });
  add.function("cdist", sizes, [](const torch::Tensor& x) {
    const auto y = torch::linspace(-1, 1, 15).view({3, 5});
    return torch::cdist(x, y) + torch::cdist(x, y, 1) + torch::cdist(x, y, 3) + torch::cdist(x, y, INFINITY) +
           torch::cdist(x, y, 0);
  });
  add.function("cdist_batch", {5}, [](const torch::Tensor& x) {
    const auto y = torch::linspace(-1, 1, 15).view({3, 5});
    return torch::cdist(x, y) + torch::cdist(x, x).sum(1, true);
  });
}

/// Whole numbers of which several are equal: which of them comes first counts.
inline torch::Tensor with_equal_ones(const torch::Tensor& x) {
  return (x * 2).round();
}

inline void add_sorts(ExportCases& add) {
  const std::vector<int64_t> sizes{9, 5};
  add.function("sort_stable", sizes, [](const torch::Tensor& x) {
    const auto y = with_equal_ones(x);
    const auto [up, up_places] = y.sort(std::optional<bool>(true), 1);
    const auto [down, down_places] = y.sort(/*stable=*/true, 1, /*descending=*/true);
    return up + up_places * 10 + down * 100 + down_places * 1000;
  });
  add.function("argsort", sizes, [](const torch::Tensor& x) {
    return x.argsort() + x.argsort(1, /*descending=*/true) * 10 + with_equal_ones(x).argsort(/*stable=*/true, 1) * 100 +
           with_equal_ones(x).argsort(/*stable=*/true, -2, /*descending=*/true) * 1000;
  });
  add.function("sort_flags", sizes, [](const torch::Tensor& x) {
    const auto [values, places] = (x > 0).sort(std::optional<bool>(true), 1);
    return values.to(torch::kInt) + places;
  });
  add.function("msort", {3}, [](const torch::Tensor& x) { return torch::msort(x.transpose(0, 1)) + x.sum().msort(); });
  add.function("kthvalue", sizes, [](const torch::Tensor& x) {
    const auto [values, places] = x.kthvalue(3, 1);
    const auto [kept, kept_places] = x.kthvalue(1, 2, /*keepdim=*/true);
    const auto [one, no_place] = x.sum().kthvalue(1);
    return torch::cat({values + places, (kept + kept_places).squeeze(2), (one + no_place).expand({x.size(0), 1})}, 1);
  });
  add.function("sort_of_one", {3}, [](const torch::Tensor& x) {
    const auto [value, place] = x.sum().sort();
    const auto [most, most_place] = x.sum().topk(1);
    return x + value + place + most + most_place + x.sum().argsort(0, true);
  });
  free_sizes(add, "sort_free", {{2, 6}, {3, 7}, {1, 4}}, {{1, "time"}}, [](const torch::Tensor& x) {
    return std::get<0>(x.sort(1, true)) + x.argsort(1, false) + std::get<0>(x.kthvalue(2, 1, true));
  });
}

inline void add_more_products(ExportCases& add) {
  namespace nn = torch::nn;
  add.function("einsum", {4, 5}, [](const torch::Tensor& x) {
    const auto y = torch::linspace(-1, 1, 15).view({3, 5});
    return torch::einsum("bij, kj -> bki", {x, y}) + torch::einsum("...ij,kj->...ki", {x, y}) +
           torch::einsum("bij->bi", {x}).unsqueeze(1) + torch::einsum("ii", {x[0].narrow(1, 0, 4)}) +
           torch::einsum("bij,bik,kj->b", {x, x.narrow(2, 0, 3), y}).view({-1, 1, 1});
  });
  nn::Bilinear layer(nn::BilinearOptions(4, 3, 5)), plain(nn::BilinearOptions(4, 3, 5).bias(false));
  add.network("bilinear", {2, 7}, {layer.ptr(), plain.ptr()}, [=](const torch::Tensor& x) mutable {
    const auto left = x.narrow(2, 0, 4), right = x.narrow(2, 4, 3);
    return layer(left, right) + plain(left, right) + layer(left.select(1, 0), right.select(1, 1)).unsqueeze(1);
  });
}

inline void add_samplings(ExportCases& add) {
  namespace F = torch::nn::functional;
  const auto sampled = [](const torch::Tensor& x, auto mode, auto padding, bool aligns) {
    const auto grid = torch::linspace(-1.3, 1.2, 40).view({1, 4, 5, 2}).expand({x.size(0), 4, 5, 2});
    return F::grid_sample(x, grid, F::GridSampleFuncOptions().mode(mode).padding_mode(padding).align_corners(aligns));
  };
  add.function("grid_sample", {2, 5, 6}, [=](const torch::Tensor& x) {
    return sampled(x, torch::kBilinear, torch::kZeros, false) + sampled(x, torch::kBilinear, torch::kBorder, true) +
           sampled(x, torch::kNearest, torch::kZeros, true) + sampled(x, torch::kBilinear, torch::kReflection, false);
  });
  add.function("grid_sample_bicubic", {2, 5, 6}, [](const torch::Tensor& x) {
    const auto grid = torch::linspace(-1.3, 1.2, 40).view({1, 4, 5, 2}).expand({x.size(0), 4, 5, 2});
    return at::grid_sampler(x, grid, 2, 0, false) + at::grid_sampler(x, grid, 2, 1, true);
  });
  free_sizes(add, "grid_sample_free", {{2, 3, 6, 8}, {5, 3, 9, 7}, {1, 3, 4, 11}}, {{2, "height"}, {3, "width"}},
             [=](const torch::Tensor& x) { return sampled(x, torch::kBilinear, torch::kZeros, false); });
  add.function("grid_sample_volume", {2, 3, 4, 5}, [](const torch::Tensor& x) {
    const auto grid = torch::linspace(-1.3, 1.2, 24).view({1, 2, 2, 2, 3}).expand({x.size(0), 2, 2, 2, 3});
    return at::grid_sampler(x, grid, 0, 0, false);
  });
  add.cases.back().oldest_opset = 20;
}

inline void add_scatters(ExportCases& add) {
  const auto index = torch::tensor({{0, 1, 2}, {3, 1, 1}});
  const auto places = [=](const torch::Tensor& x) { return index.unsqueeze(0).expand({x.size(0), 2, 3}); };
  add.function("scatter", {4, 3}, [=](const torch::Tensor& x) {
    return x.scatter(1, places(x).slice(2, 0, 2), x * 2) + x.scatter(1, places(x), 0.5) +
           torch::zeros_like(x).scatter_(1, places(x), 3) + x.scatter(-2, places(x), x, "add") +
           x.scatter(1, places(x), 2, "multiply");
  });
  add.function("scatter_add", {4, 3}, [=](const torch::Tensor& x) {
    return x.scatter_add(1, places(x), x.narrow(1, 0, 2).contiguous()) +
           torch::zeros_like(x).scatter_add_(1, places(x), x);
  });
  add.function("scatter_reduce", {4, 3}, [=](const torch::Tensor& x) {
    auto y = x;
    for (const auto* reduce : {"sum", "prod", "mean"}) {
      for (const bool includes_self : {false, true}) y = y + x.scatter_reduce(1, places(x), x, reduce, includes_self);
    }
    return y;
  });
  add.function("scatter_reduce_extremes", {4, 3}, [=](const torch::Tensor& x) {
    return x.scatter_reduce(1, places(x), -x, "amax") + x.scatter_reduce(1, places(x), x * 2, "amin", false);
  });
  add.cases.back().oldest_opset = 18;
  add.function(
      "one_hot",
      [](int64_t batch) {
        return torch::arange(batch * 3).view({batch, 3}).remainder(5);
      },
      [](const torch::Tensor& x) { return torch::one_hot(x, 6); });
}

inline void add_embedding_bags(ExportCases& add) {
  namespace nn = torch::nn;
  const auto words = [](int64_t batch) { return torch::arange(batch * 4).view({batch, 4}).remainder(7); };
  for (const auto& [name, mode] : std::initializer_list<std::pair<const char*, nn::EmbeddingBagMode>>{
           {"sum", torch::kSum}, {"mean", torch::kMean}}) {
    nn::EmbeddingBag bag(nn::EmbeddingBagOptions(7, 5).mode(mode));
    nn::EmbeddingBag padded(nn::EmbeddingBagOptions(7, 5).mode(mode).padding_idx(3));
    add.function(std::string("embedding_bag_") + name, words,
                 [=](const torch::Tensor& x) mutable { return bag(x) + padded(x); });
    auto& module = *add.cases.back().module;
    module.register_module("bag", bag.ptr());
    module.register_module("padded", padded.ptr());
  }
  nn::EmbeddingBag largest(nn::EmbeddingBagOptions(7, 5).mode(torch::kMax).padding_idx(3));
  add.function("embedding_bag_max", words, [=](const torch::Tensor& x) mutable { return largest(x); });
  add.cases.back().module->register_module("bag", largest.ptr());
  nn::EmbeddingBag open(nn::EmbeddingBagOptions(7, 5).mode(torch::kMean).include_last_offset(true));
  add.function("embedding_bag_offsets", words, [=](const torch::Tensor& x) mutable {
    // An empty bag in the middle and one at the end.
    return open(x.flatten(), torch::tensor({0, 3, 3, 7, 8, 8}).minimum(torch::full({}, 4 * x.size(0)))) + 0 * x.sum();
  });
  add.cases.back().module->register_module("bag", open.ptr());
  nn::EmbeddingBag weighted(nn::EmbeddingBagOptions(7, 5).mode(torch::kSum));
  add.function("embedding_bag_weights", words,
               [=](const torch::Tensor& x) mutable { return weighted(x, torch::Tensor(), x.to(torch::kFloat) * 0.1); });
  add.cases.back().module->register_module("bag", weighted.ptr());
}

inline std::vector<ExportCase> composed_cases() {
  torch::manual_seed(4);
  ExportCases add;
  add_resizings(add);
  add_adaptive_poolings(add);
  add_batch_statistics(add);
  add_windows(add);
  add_rearrangements(add);
  add_special_functions(add);
  add_more_reductions(add);
  add_sorts(add);
  add_more_products(add);
  add_samplings(add);
  add_scatters(add);
  add_embedding_bags(add);
  return std::move(add.cases);
}

}  // namespace troupe
