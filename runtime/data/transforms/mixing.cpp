#include "troupe/runtime/data/transforms/mixing.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"

#include <ATen/ops/_sample_dirichlet.h>
#include <ATen/ops/full.h>
#include <ATen/ops/one_hot.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace troupe::transforms {

namespace {

void check_mix_options(const MixOptions& options, const char* who) {
  if (!(options.alpha > 0) || !std::isfinite(options.alpha)) {
    throw UsageError(std::string(who) + ": alpha is " + double_to_text(options.alpha) +
                     "; a finite number above 0 was expected");
  }
  if (options.num_classes && *options.num_classes < 1) {
    throw UsageError(std::string(who) + ": num_classes is " + std::to_string(*options.num_classes) +
                     "; at least 1 was expected");
  }
}

/// Throws UsageError unless the batch is images [N, C, H, W] and labels [N] or [N, classes].
void check_mixed_batch(const Batch& batch, const char* who) {
  if (batch.tensor_count() < 2) {
    throw UsageError(std::string(who) + " takes a batch of images and labels, not of " +
                     std::to_string(batch.tensor_count()) + " tensors");
  }
  const auto &images = batch[0], &labels = batch[1];
  if (!images.defined() || images.dim() != 4) {
    throw UsageError(std::string(who) + " takes images [N, C, H, W], not " + image_text(images));
  }
  if (!labels.defined() || labels.dim() < 1 || labels.dim() > 2 || labels.size(0) != images.size(0)) {
    throw UsageError(std::string(who) + " takes one label for each of the " + std::to_string(images.size(0)) +
                     " images, [N] or [N, classes], not " + image_text(labels));
  }
}

/// Labels as shares of the classes, floating point [N, classes].
torch::Tensor label_shares(const torch::Tensor& labels, std::optional<int64_t> classes, const char* who) {
  if (labels.dim() == 2) {
    if (classes && labels.size(1) != *classes) {
      throw UsageError(std::string(who) + ": num_classes is " + std::to_string(*classes) + ", but the labels are " +
                       image_text(labels));
    }
    return labels.is_floating_point() ? labels : labels.to(torch::kFloat32);
  }
  if (!classes) throw UsageError(std::string(who) + " needs num_classes for labels [N]: {.num_classes = 10}");
  if (labels.is_floating_point() || labels.is_complex()) {
    throw UsageError(std::string(who) + " takes labels [N] of whole numbers, not " + image_text(labels));
  }
  const auto indices = labels.to(torch::kInt64);
  if (indices.is_cpu() && indices.numel() > 0) {
    const auto lowest = indices.min().item<int64_t>(), highest = indices.max().item<int64_t>();
    if (lowest < 0 || highest >= *classes) {
      throw UsageError(std::string(who) + ": a label is " + std::to_string(lowest < 0 ? lowest : highest) + "; 0 to " +
                       std::to_string(*classes - 1) + " were expected, since num_classes is " +
                       std::to_string(*classes));
    }
  }
  return at::one_hot(indices, *classes).to(torch::kFloat32);
}

/// `lambda` of each row and the rest of the one before it.
torch::Tensor mixed_rows(const torch::Tensor& rows, double lambda) {
  return rows.roll(1, 0).mul_(1 - lambda).add_(rows.mul(lambda));
}

double draw_share(double alpha) {
  return at::_sample_dirichlet(at::full({1, 2}, alpha, torch::kFloat32)).select(-1, 0).item<double>();
}

template <class Mix>
Collate mixing_collate(const Mix& mix) {
  return [mix](std::vector<Batch> samples) { return mix(default_collate(std::move(samples))); };
}

}  // namespace

MixUp::MixUp(MixOptions options) : options_(options) {
  check_mix_options(options, "MixUp");
}

double MixUp::draw() const {
  return draw_share(options_.alpha);
}

Batch MixUp::apply(Batch batch, double lambda) const {
  check_mixed_batch(batch, "MixUp");
  if (!(lambda >= 0 && lambda <= 1)) {
    throw UsageError("MixUp: lambda is " + double_to_text(lambda) + "; a share from 0 to 1 was expected");
  }
  if (!batch[0].is_floating_point()) {
    throw UsageError("MixUp takes floating-point images, not " + image_text(batch[0]) + "; ToFloat makes them");
  }
  auto labels = mixed_rows(label_shares(batch[1], options_.num_classes, "MixUp"), lambda);
  batch[0] = mixed_rows(batch[0], lambda);
  batch[1] = std::move(labels);
  return batch;
}

Batch MixUp::operator()(Batch batch) const {
  return apply(std::move(batch), draw());
}

Collate MixUp::collate() const {
  return mixing_collate(*this);
}

CutMix::CutMix(MixOptions options) : options_(options) {
  check_mix_options(options, "CutMix");
}

CutMix::Parameters CutMix::draw(int64_t height, int64_t width) const {
  if (height < 1 || width < 1) throw UsageError("CutMix: images of " + size_text(height, width) + " have no pixels");
  const double share = draw_share(options_.alpha);
  const int64_t x = draw_index(width), y = draw_index(height);
  const double half_side = 0.5 * std::sqrt(1 - share);
  const auto half_width = static_cast<int64_t>(half_side * static_cast<double>(width));
  const auto half_height = static_cast<int64_t>(half_side * static_cast<double>(height));
  Parameters drawn{std::max<int64_t>(0, x - half_width), std::max<int64_t>(0, y - half_height),
                   std::min(width, x + half_width), std::min(height, y + half_height)};
  const auto cut = static_cast<double>((drawn.x2 - drawn.x1) * (drawn.y2 - drawn.y1));
  drawn.lambda = 1 - cut / static_cast<double>(width * height);
  return drawn;
}

Batch CutMix::apply(Batch batch, const Parameters& parameters) const {
  check_mixed_batch(batch, "CutMix");
  const auto [x1, y1, x2, y2, lambda] = parameters;
  const auto& images = batch[0];
  if (x1 < 0 || y1 < 0 || x1 > x2 || y1 > y2 || x2 > images.size(3) || y2 > images.size(2)) {
    throw UsageError("CutMix: the box from " + size_text(y1, x1) + " to " + size_text(y2, x2) +
                     " lies outside of images of " + size_text(images.size(2), images.size(3)));
  }
  if (!(lambda >= 0 && lambda <= 1)) {
    throw UsageError("CutMix: lambda is " + double_to_text(lambda) + "; a share from 0 to 1 was expected");
  }
  auto labels = mixed_rows(label_shares(batch[1], options_.num_classes, "CutMix"), lambda);
  auto mixed = images.clone();
  const auto box = [&](const torch::Tensor& all) { return all.slice(2, y1, y2).slice(3, x1, x2); };
  box(mixed).copy_(box(images).roll(1, 0));
  batch[0] = std::move(mixed);
  batch[1] = std::move(labels);
  return batch;
}

Batch CutMix::operator()(Batch batch) const {
  check_mixed_batch(batch, "CutMix");
  const auto drawn = draw(batch[0].size(2), batch[0].size(3));
  return apply(std::move(batch), drawn);
}

Collate CutMix::collate() const {
  return mixing_collate(*this);
}

}  // namespace troupe::transforms
