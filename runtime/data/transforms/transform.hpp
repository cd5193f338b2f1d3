// What changes one image on its way from a file to a batch, and chains of such steps.
//
// Names, parameters and values are those of torchvision.transforms.v2, version 0.26
// (https://docs.pytorch.org/vision/stable/transforms.html): with the same parameters the result differs by at most one
// level of uint8 or 1e-5 of a float. Random transforms draw in torchvision's order from the calling thread's default
// CPU generator, so that the same seed gives the same parameters.
#pragma once

#include <torch/types.h>

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe::transforms {

/// A function of an image. It is immutable: one object may serve several threads at once.
class Transform {
 public:
  virtual ~Transform() = default;
  /// The changed image; it may share memory with `image`, which is never written to. `image` is [..., C, H, W], uint8
  /// (0 to 255) or floating point (0 to 1); leading dimensions are images that all get the same parameters. Throws
  /// UsageError for any other tensor, naming its shape or type.
  virtual torch::Tensor operator()(const torch::Tensor& image) const = 0;
};

template <class T>
concept Step = std::derived_from<std::remove_cvref_t<T>, Transform>;

/// Steps one after another:
///
///     const Compose train{RandomResizedCrop(224), RandomHorizontalFlip(), ToFloat(), Normalize(mean, std)};
///
/// A cheap, copyable handle: the steps are shared, not copied.
class Compose : public Transform {
 public:
  template <Step... Steps>
  requires(sizeof...(Steps) > 1 || (sizeof...(Steps) == 1 && !(std::same_as<std::remove_cvref_t<Steps>, Compose> &&
                                                               ...))) explicit Compose(Steps&&... steps)
      : Compose(std::vector<std::shared_ptr<const Transform>>{
            std::make_shared<const std::remove_cvref_t<Steps>>(std::forward<Steps>(steps))...}) {}
  /// Throws UsageError if there is no step or a null one.
  explicit Compose(std::vector<std::shared_ptr<const Transform>> steps);

  torch::Tensor operator()(const torch::Tensor& image) const override;
  const std::vector<std::shared_ptr<const Transform>>& steps() const { return steps_; }

 private:
  std::vector<std::shared_ptr<const Transform>> steps_;
};

/// All steps with probability `p`, else none of them.
class RandomApply : public Transform {
 public:
  /// Throws UsageError for a `p` outside of [0, 1].
  explicit RandomApply(Compose steps, double p = 0.5);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  /// Whether the steps are applied.
  bool draw() const;

 private:
  Compose steps_;
  double p_;
};

}  // namespace troupe::transforms
