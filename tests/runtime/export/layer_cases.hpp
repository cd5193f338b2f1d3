// Layers of LibTorch's: linear, convolutions, normalizations, pooling, embeddings, recurrent ones, attention.
#pragma once

#include "tests/runtime/export/export_cases.hpp"

namespace troupe {

/// Statistics as after training, not those of a new layer.
template <typename Impl>
torch::nn::ModuleHolder<Impl> trained(torch::nn::ModuleHolder<Impl> norm) {
  torch::nn::init::normal_(norm->running_mean);
  torch::nn::init::uniform_(norm->running_var, 0.5, 2);
  torch::nn::init::uniform_(norm->weight, 0.5, 2);
  torch::nn::init::normal_(norm->bias);
  return norm;
}

inline void add_convolutions(ExportCases& add) {
  namespace nn = torch::nn;
  add.layer("conv1d", {3, 12}, nn::Conv1d(nn::Conv1dOptions(3, 4, 3).stride(2).padding(1)));
  add.layer("conv1d_same", {4, 9}, nn::Conv1d(nn::Conv1dOptions(4, 4, 4).padding(torch::kSame).dilation(2).groups(2)));
  add.layer("conv2d", {3, 8, 9}, nn::Conv2d(nn::Conv2dOptions(3, 6, {3, 2}).stride({2, 1}).padding({1, 0}).groups(3)));
  add.layer("conv2d_valid", {2, 7, 7}, nn::Conv2d(nn::Conv2dOptions(2, 3, 3).padding(torch::kValid).bias(false)));
  add.layer("conv2d_same", {2, 7, 8}, nn::Conv2d(nn::Conv2dOptions(2, 3, {2, 4}).padding(torch::kSame)));
  add.layer("conv2d_reflect", {2, 6, 6},
            nn::Conv2d(nn::Conv2dOptions(2, 3, 3).padding(2).padding_mode(torch::kReflect)));
  add.layer("conv2d_replicate", {2, 6, 6},
            nn::Conv2d(nn::Conv2dOptions(2, 3, 3).padding({1, 2}).padding_mode(torch::kReplicate)));
  add.layer("conv3d", {2, 4, 5, 6}, nn::Conv3d(nn::Conv3dOptions(2, 3, 2).dilation(2).padding(1)));
  add.layer("conv_transpose1d", {4, 6},
            nn::ConvTranspose1d(nn::ConvTranspose1dOptions(4, 6, 3).stride(2).output_padding(1).groups(2)));
  add.layer("conv_transpose2d", {3, 5, 4},
            nn::ConvTranspose2d(nn::ConvTranspose2dOptions(3, 2, {4, 3}).stride(2).padding({1, 0}).dilation(2)));
  add.layer("conv_transpose3d", {2, 3, 3, 3}, nn::ConvTranspose3d(nn::ConvTranspose3dOptions(2, 2, 2).stride(2)));
  // One image without a batch, as a part of a network that has one.
  nn::Conv2d shared(nn::Conv2dOptions(2, 3, 3));
  add.network("conv2d_unbatched", {2, 5, 5}, {shared.ptr()}, [shared](const torch::Tensor& x) mutable {
    return x.flatten(1).sum(1).view({-1, 1, 1, 1}) + shared(x[0]);
  });
}

inline void add_normalizations(ExportCases& add) {
  namespace nn = torch::nn;
  add.layer("batch_norm1d", {6}, trained(nn::BatchNorm1d(6)));
  add.layer("batch_norm1d_sequence", {6, 5}, trained(nn::BatchNorm1d(nn::BatchNorm1dOptions(6).eps(1e-2))));
  add.layer("batch_norm2d", {3, 4, 5}, trained(nn::BatchNorm2d(3)));
  add.layer("batch_norm2d_plain", {3, 4, 5}, nn::BatchNorm2d(nn::BatchNorm2dOptions(3).affine(false)));
  add.layer("batch_norm3d", {3, 2, 4, 5}, trained(nn::BatchNorm3d(3)));
  add.layer("instance_norm1d", {3, 7}, nn::InstanceNorm1d(3));
  add.layer("instance_norm2d", {3, 4, 5},
            trained(nn::InstanceNorm2d(nn::InstanceNorm2dOptions(3).affine(true).track_running_stats(true))));
  add.layer("instance_norm3d", {3, 2, 4, 5}, nn::InstanceNorm3d(nn::InstanceNorm3dOptions(3).affine(true)));
  add.layer("layer_norm", {5, 8}, nn::LayerNorm(nn::LayerNormOptions({8})));
  add.layer("layer_norm_two_axes", {5, 8}, nn::LayerNorm(nn::LayerNormOptions({5, 8}).eps(1e-3)));
  add.layer("layer_norm_plain", {5, 8}, nn::LayerNorm(nn::LayerNormOptions({8}).elementwise_affine(false)));
  nn::GroupNorm group(nn::GroupNormOptions(2, 6));
  nn::init::normal_(group->weight);
  nn::init::normal_(group->bias);
  add.layer("group_norm", {6, 4, 4}, group);
  add.layer("group_norm_plain", {6, 4}, nn::GroupNorm(nn::GroupNormOptions(3, 6).affine(false)));
  add.function("rms_norm", {4, 6}, [](const torch::Tensor& x) {
    return at::rms_norm(x, {6}, torch::linspace(0.5, 2, 6), 1e-5) + at::rms_norm(x, {4, 6});
  });
}

inline void add_poolings(ExportCases& add) {
  namespace nn = torch::nn;
  namespace F = torch::nn::functional;
  add.layer("max_pool1d", {3, 9}, nn::MaxPool1d(nn::MaxPool1dOptions(3).stride(2).padding(1)));
  add.layer("max_pool2d", {3, 9, 8},
            nn::MaxPool2d(nn::MaxPool2dOptions({3, 2}).stride({2, 3}).padding({1, 0}).dilation({1, 2})));
  add.layer("max_pool2d_ceil", {3, 8, 8}, nn::MaxPool2d(nn::MaxPool2dOptions(3).stride(2).ceil_mode(true)));
  for (const int64_t size : {5, 6, 7, 8}) {
    for (const int64_t kernel : {2, 3}) {
      for (const int64_t stride : {2, 3}) {
        const auto name = std::to_string(size) + "_" + std::to_string(kernel) + "_" + std::to_string(stride);
        add.layer("max_pool2d_ceil_" + name, {1, size, size},
                  nn::MaxPool2d(nn::MaxPool2dOptions(kernel).stride(stride).padding(1).ceil_mode(true)));
      }
    }
  }
  add.layer("max_pool1d_ceil_dilated", {2, 8},
            nn::MaxPool1d(nn::MaxPool1dOptions(2).stride(3).dilation(3).ceil_mode(true)));
  // The window that ceil_mode adds would begin in the padding, which LibTorch leaves out.
  add.layer("avg_pool2d_ceil_in_padding", {1, 5, 8},
            nn::AvgPool2d(nn::AvgPool2dOptions(2).stride(3).padding(1).ceil_mode(true)));
  add.layer("max_pool3d", {2, 4, 5, 6}, nn::MaxPool3d(2));
  add.function("max_pool2d_indices", {2, 6, 6},
               [](const torch::Tensor& x) { return std::get<0>(at::max_pool2d_with_indices(x, 2)); });
  add.function("max_pool3d_indices", {2, 4, 4, 4},
               [](const torch::Tensor& x) { return std::get<0>(at::max_pool3d_with_indices(x, 2)); });
  add.function("max_pool1d_indices", {2, 6},
               [](const torch::Tensor& x) { return std::get<0>(at::max_pool1d_with_indices(x, 2)); });
  add.layer("avg_pool1d", {3, 9}, nn::AvgPool1d(nn::AvgPool1dOptions(3).stride(2).padding(1)));
  add.layer("avg_pool2d", {3, 9, 8},
            nn::AvgPool2d(nn::AvgPool2dOptions(3).stride(2).padding(1).count_include_pad(false)));
  add.layer("avg_pool2d_divisor", {3, 9, 8}, nn::AvgPool2d(nn::AvgPool2dOptions(2).divisor_override(3)));
  add.layer("avg_pool2d_ceil", {3, 8, 8}, nn::AvgPool2d(nn::AvgPool2dOptions(2).ceil_mode(true)));
  add.layer("avg_pool3d", {2, 4, 5, 6}, nn::AvgPool3d(nn::AvgPool3dOptions(2).padding(1)));
  add.layer("adaptive_avg_pool1d", {3, 8}, nn::AdaptiveAvgPool1d(4));
  add.layer("adaptive_avg_pool2d", {3, 8, 9}, nn::AdaptiveAvgPool2d(nn::AdaptiveAvgPool2dOptions({4, 3})));
  add.layer("adaptive_avg_pool2d_one", {3, 7, 5}, nn::AdaptiveAvgPool2d(1));
  add.layer("adaptive_avg_pool3d", {3, 4, 6, 2}, nn::AdaptiveAvgPool3d(2));
  add.layer("adaptive_max_pool1d", {3, 8}, nn::AdaptiveMaxPool1d(2));
  add.layer("adaptive_max_pool2d", {3, 8, 9}, nn::AdaptiveMaxPool2d(1));
  add.layer("adaptive_max_pool3d", {3, 4, 6, 2}, nn::AdaptiveMaxPool3d(2));
  add.function("max_pool2d_unbatched", {2, 6, 6}, [](const torch::Tensor& x) {
    return x.sum({1, 2, 3}).view({-1, 1, 1, 1}) + torch::max_pool2d(x[0], 2);
  });
  add.function("upsample_nearest", {2, 3, 4}, [](const torch::Tensor& x) {
    return F::interpolate(x, F::InterpolateFuncOptions().size(std::vector<int64_t>{6, 4}).mode(torch::kNearest));
  });
  add.function("upsample_nearest1d", {2, 3}, [](const torch::Tensor& x) { return at::upsample_nearest1d(x, {9}); });
  add.function("upsample_nearest3d", {2, 2, 3, 2}, [](const torch::Tensor& x) {
    return at::upsample_nearest3d(x, {4, 3, 6});
  });
  add.function("upsample_linear1d", {2, 5},
               [](const torch::Tensor& x) { return at::upsample_linear1d(x, {8}, false); });
  add.function("upsample_bilinear2d", {2, 3, 4}, [](const torch::Tensor& x) {
    return at::upsample_bilinear2d(x, {6, 8}, true) + at::upsample_bilinear2d(x, {6, 8}, false);
  });
  add.function("upsample_trilinear3d", {2, 2, 3, 2}, [](const torch::Tensor& x) {
    return at::upsample_trilinear3d(x, {4, 3, 4}, false);
  });
}

inline void add_recurrent(ExportCases& add) {
  namespace nn = torch::nn;
  const auto recurrent = [&](const std::string& name, auto layer) {
    add.network(name, {6, 5}, {layer.ptr()}, [layer](const torch::Tensor& x) mutable {
      const auto outputs = layer->forward(x);
      const auto& state = std::get<1>(outputs);
      torch::Tensor last;
      if constexpr (std::is_same_v<std::decay_t<decltype(state)>, torch::Tensor>) {
        last = state;
      } else {
        last = std::get<0>(state) + std::get<1>(state);
      }
      return torch::cat({std::get<0>(outputs).flatten(1), last.transpose(0, 1).flatten(1)}, 1);
    });
  };
  recurrent("lstm", nn::LSTM(nn::LSTMOptions(5, 4).batch_first(true)));
  recurrent("lstm_deep",
            nn::LSTM(nn::LSTMOptions(5, 4).batch_first(true).num_layers(2).bidirectional(true).dropout(0.5)));
  recurrent("lstm_plain", nn::LSTM(nn::LSTMOptions(5, 3).batch_first(true).bias(false)));
  recurrent("gru", nn::GRU(nn::GRUOptions(5, 4).batch_first(true).num_layers(2)));
  recurrent("gru_both_ways", nn::GRU(nn::GRUOptions(5, 4).batch_first(true).bidirectional(true)));
  recurrent("rnn_tanh", nn::RNN(nn::RNNOptions(5, 4).batch_first(true).bidirectional(true)));
  recurrent("rnn_relu", nn::RNN(nn::RNNOptions(5, 4).batch_first(true).nonlinearity(torch::kReLU)));
  nn::GRU time_first(nn::GRUOptions(5, 4));
  add.network("gru_time_first", {6, 5}, {time_first.ptr()}, [time_first](const torch::Tensor& x) mutable {
    return std::get<0>(time_first->forward(x.transpose(0, 1))).transpose(0, 1);
  });
  nn::LSTMCell cell(5, 4);
  add.network("lstm_cell", {5}, {cell.ptr()}, [cell](const torch::Tensor& x) mutable {
    auto [h, c] = cell->forward(x);
    return std::get<0>(cell->forward(x * 2, std::make_tuple(h, c)));
  });
  nn::GRUCell gru_cell(5, 4);
  add.network("gru_cell", {5}, {gru_cell.ptr()},
              [gru_cell](const torch::Tensor& x) mutable { return gru_cell->forward(x, gru_cell->forward(x)); });
}

inline void add_products(ExportCases& add) {
  namespace nn = torch::nn;
  add.layer("linear", {6}, nn::Linear(6, 4));
  add.layer("linear_sequence", {3, 6}, nn::Linear(nn::LinearOptions(6, 4).bias(false)));
  const auto weight = torch::randn({4, 6}), bias = torch::randn({4});
  add.function("linear_function", {6}, [=](const torch::Tensor& x) { return at::linear(x, weight, bias); });
  add.function("linear_function_sequence", {3, 6},
               [=](const torch::Tensor& x) { return at::linear(x, weight, bias) + at::linear(x, weight); });
  add.function("matmul", {3, 6}, [=](const torch::Tensor& x) { return torch::matmul(x, weight.t()); });
  add.function("mm", {6}, [=](const torch::Tensor& x) { return torch::mm(x, weight.t()); });
  add.function("addmm", {6}, [=](const torch::Tensor& x) { return torch::addmm(bias, x, weight.t(), 0.5, 2); });
  add.function("bmm", {3, 6}, [](const torch::Tensor& x) { return torch::bmm(x, x.transpose(1, 2)); });
  add.function("baddbmm", {3, 6}, [](const torch::Tensor& x) {
    return torch::baddbmm(torch::ones({3}), x, x.mT(), 2, 0.5) + torch::baddbmm(torch::ones({3}), x, x.mT(), 0, 1);
  });
  add.function("mv", {4}, [=](const torch::Tensor& x) { return torch::mv(x, bias) + torch::addmv(x[0][0], x, bias); });
  add.function("dot", {4}, [=](const torch::Tensor& x) { return x * torch::dot(x[0], bias); });
  add.function("outer", {4}, [=](const torch::Tensor& x) { return torch::outer(x.sum(1), bias); });
  const auto tokens = [](int64_t batch) { return torch::randint(0, 10, {batch, 7}); };
  nn::Embedding embedding(nn::EmbeddingOptions(10, 4).padding_idx(0));
  add.function("embedding", tokens, [embedding](const torch::Tensor& x) mutable { return embedding->forward(x); });
  add.cases.back().module->register_module("embedding", embedding);
}

inline void add_attention(ExportCases& add) {
  namespace nn = torch::nn;
  add.function("attention", {2, 5, 8},
               [](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x * 2, x + 1); });
  add.function("attention_causal", {2, 5, 8}, [](const torch::Tensor& x) {
    return at::scaled_dot_product_attention(x, x.slice(2, 0, 4), x.slice(2, 0, 4), {}, 0., true, 0.3);
  });
  add.function("attention_bool_mask", {2, 5, 8}, [](const torch::Tensor& x) {
    const auto mask = torch::ones({5, 5}, torch::kBool).tril(-1);  // the first query looks at nothing
    return at::scaled_dot_product_attention(x, x, x, mask);
  });
  add.function("attention_float_mask", {2, 5, 8},
               [](const torch::Tensor& x) { return at::scaled_dot_product_attention(x, x, x, x.narrow(3, 0, 5)); });
  nn::MultiheadAttention heads(nn::MultiheadAttentionOptions(8, 2));
  add.network("multihead_attention", {5, 8}, {heads.ptr()}, [heads](const torch::Tensor& x) mutable {
    const auto sequence = x.transpose(0, 1);
    auto [y, weights] = heads->forward(sequence, sequence, sequence);
    return torch::cat({y.transpose(0, 1), weights}, 2);
  });
  nn::TransformerEncoder encoder(
      nn::TransformerEncoderOptions(nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16), 2));
  add.network("transformer_encoder", {5, 8}, {encoder.ptr()}, [encoder](const torch::Tensor& x) mutable {
    return encoder->forward(x.transpose(0, 1)).transpose(0, 1);
  });
}

inline std::vector<ExportCase> layer_cases() {
  torch::manual_seed(1);
  ExportCases add;
  add_products(add);
  add_convolutions(add);
  add_normalizations(add);
  add_poolings(add);
  add_recurrent(add);
  add_attention(add);
  return std::move(add.cases);
}

}  // namespace troupe
