// The convolutions of legere 0.11, a recognizer of lines of printed text with weights of 1.4 MB
// (https://pypi.org/project/legere, MIT licence), which never saw a handwritten digit. Parameters have its names.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>

namespace printed_text {
namespace nn = torch::nn;

/// A convolution within each channel, then one across them.
class Block : public nn::Module {
 public:
  Block(int64_t in, int64_t out, torch::ExpandingArray<2> stride) {
    const auto within = nn::Conv2dOptions(in, in, 3).stride(stride).padding(1).groups(in).bias(false);
    depthwise_ = register_module("depthwise", nn::Conv2d(within));
    bn1_ = register_module("bn1", nn::BatchNorm2d(in));
    pointwise_ = register_module("pointwise", nn::Conv2d(nn::Conv2dOptions(in, out, 1).bias(false)));
    bn2_ = register_module("bn2", nn::BatchNorm2d(out));
  }
  torch::Tensor forward(const torch::Tensor& x) { return bn2_(pointwise_(bn1_(depthwise_(x)).relu())).relu(); }

 private:
  nn::Conv2d depthwise_{nullptr}, pointwise_{nullptr};
  nn::BatchNorm2d bn1_{nullptr}, bn2_{nullptr};
};

/// Images [N, 1, 32, W], from -1 (ink) to 1 (paper), become features [N, 192, 1, W / 4].
class Convolutions : public nn::Module {
 public:
  Convolutions() {
    const auto first = nn::Conv2dOptions(1, 24, 3).stride(2).padding(1).bias(false);
    stem_ = register_module("stem", nn::Sequential(nn::Conv2d(first), nn::BatchNorm2d(24), nn::ReLU()));
    blocks_ = register_module("blocks", nn::Sequential());
    constexpr std::array<int64_t, 7> channels = {24, 48, 64, 96, 128, 160, 192};
    constexpr std::array<std::array<int64_t, 2>, 6> strides = {{{2, 2}, {1, 1}, {2, 1}, {1, 1}, {2, 1}, {2, 1}}};
    for (std::size_t i = 0; i < strides.size(); ++i) {
      blocks_->push_back(std::make_shared<Block>(channels[i], channels[i + 1], strides[i]));
    }
  }
  torch::Tensor forward(const torch::Tensor& images) { return blocks_->forward(stem_->forward(images)); }

 private:
  nn::Sequential stem_{nullptr}, blocks_{nullptr};
};

/// For images [N, 1, 28, 28] from 0 (paper) to 1 (ink): 1536 features, 192 of each of 8 columns. With the weights in
/// `file`, legere/data/model.pt of the package, unless it is empty.
inline nn::Sequential backbone(const std::filesystem::path& file) {
  const auto as_printed = [](const torch::Tensor& images) {
    return 1 - 2 * torch::constant_pad_nd(images, {2, 2, 2, 2});
  };
  nn::Sequential layers(nn::Functional(as_printed), std::make_shared<Convolutions>(), nn::Flatten());
  if (!file.empty()) {
    // The file has the weights beside its alphabet; what is behind the convolutions reads whole lines.
    troupe::load_weights(*layers, file,
                         {.key = "model", .rename = {{"^(stem|blocks)", "1.$1"}, {"^(rnn|head).*", ""}}});
  }
  return layers;
}

}  // namespace printed_text
