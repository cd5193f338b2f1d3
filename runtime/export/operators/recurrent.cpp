// LSTM, GRU and plain recurrent layers: an ONNX operator for each layer.
#include "troupe/runtime/export/onnx_call.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe {

namespace {

struct Cell {
  const char* op_type;
  int64_t gates;
  std::vector<int64_t> order;  ///< ONNX's gates among LibTorch's
  OnnxAttributes attributes;
};

/// The weights of both directions, with the gates in ONNX's order.
class Weights {
 public:
  Weights(OnnxCall& call, const Cell& cell) : call_(call), cell_(cell), params_(call.value("params").list) {}

  /// Rows of gates: [gates * hidden, ...], for each direction one.
  torch::Tensor reordered(std::size_t index) const {
    const auto tensor = call_.known_tensor(params_.at(index));
    if (!tensor) call_.refuse("its weights depend on the input");
    const auto gates = tensor->chunk(cell_.gates, 0);
    std::vector<torch::Tensor> ordered;
    for (const auto gate : cell_.order) ordered.push_back(gates.at(static_cast<std::size_t>(gate)));
    return torch::cat(ordered);
  }
  std::string path(std::size_t index) const { return params_.at(index).path; }
  std::size_t count() const { return params_.size(); }

 private:
  OnnxCall& call_;
  const Cell& cell_;
  const std::vector<OnnxValue>& params_;
};

class Recurrent {
 public:
  Recurrent(OnnxCall& call, const Cell& cell, std::vector<std::string> states)
      : call_(call), cell_(cell), states_(std::move(states)), weights_(call, cell) {
    has_biases_ = call.flag("has_biases");
    layers_ = call.integer("num_layers");
    directions_ = call.flag("bidirectional") ? 2 : 1;
    if (call.flag("train") && call.number("dropout") > 0) call.refuse("it is in train mode; export is of eval mode");
    const std::size_t per_direction = has_biases_ ? 4 : 2;
    if (weights_.count() != static_cast<std::size_t>(layers_ * directions_) * per_direction) {
      call.refuse("it has projections (proj_size)");
    }
  }

  void write() {
    const auto input = call_.tensor("input");
    const bool is_batched = input.rank() == 3;
    const bool batch_first = is_batched && call_.flag("batch_first");
    auto y = is_batched ? input.name : call_.b.unsqueeze(input.name, {1});
    if (batch_first) y = call_.b.transpose(y, {1, 0, 2});
    if (!is_batched) {
      for (auto& state : states_) state = call_.b.unsqueeze(state, {1});
    }
    std::vector<std::vector<std::string>> last(states_.size());
    for (int64_t layer = 0; layer < layers_; ++layer) y = write_layer(y, layer, last);
    if (batch_first) y = call_.b.transpose(y, {1, 0, 2});
    call_.returns(is_batched ? y : call_.b.squeeze(y, {1}), 0);
    for (std::size_t s = 0; s < states_.size(); ++s) {
      auto state = layers_ == 1 ? last[s][0] : call_.b.add("Concat", last[s], {{"axis", int64_t{0}}});
      call_.returns(is_batched ? state : call_.b.squeeze(state, {1}), s + 1);
    }
  }

 private:
  /// [directions, rows, columns] of the weights that lie `offset` behind the first of each direction.
  std::string stacked(int64_t layer, std::size_t offset) const {
    std::vector<torch::Tensor> directions;
    for (int64_t d = 0; d < directions_; ++d) directions.push_back(weights_.reordered(first(layer, d) + offset));
    return call_.b.constant(torch::stack(directions), weights_.path(first(layer, 0) + offset) + ".onnx");
  }
  std::string biases(int64_t layer) const {
    if (!has_biases_) return "";
    std::vector<torch::Tensor> directions;
    for (int64_t d = 0; d < directions_; ++d) {
      directions.push_back(
          torch::cat({weights_.reordered(first(layer, d) + 2), weights_.reordered(first(layer, d) + 3)}));
    }
    return call_.b.constant(torch::stack(directions), weights_.path(first(layer, 0) + 2) + ".onnx");
  }
  std::size_t first(int64_t layer, int64_t direction) const {
    return static_cast<std::size_t>(layer * directions_ + direction) * (has_biases_ ? 4 : 2);
  }

  std::string write_layer(const std::string& x, int64_t layer, std::vector<std::vector<std::string>>& last) {
    const auto hidden = weights_.reordered(first(layer, 0) + 1).size(1);
    std::vector<std::string> inputs{x, stacked(layer, 0), stacked(layer, 1), biases(layer), ""};
    for (const auto& state : states_) {
      const OnnxInt from{layer * directions_, ""}, to{(layer + 1) * directions_, ""};
      inputs.push_back(layers_ == 1 ? state : call_.b.slice(state, 0, from, to));
    }
    auto attributes = cell_.attributes;
    attributes.emplace_back("hidden_size", hidden);
    if (directions_ == 2) {
      attributes.emplace_back("direction", std::string("bidirectional"));
      for (auto& [name, value] : attributes) {
        auto* activations = std::get_if<std::vector<std::string>>(&value);
        if (activations) activations->push_back(activations->front());
      }
    }
    const auto outputs = call_.b.add_many(cell_.op_type, inputs, 1 + states_.size(), attributes);
    for (std::size_t s = 0; s < states_.size(); ++s) last[s].push_back(outputs[s + 1]);
    // [time, directions, batch, hidden] -> [time, batch, directions * hidden]
    if (directions_ == 1) return call_.b.squeeze(outputs[0], {1});
    return call_.b.add("Reshape", {call_.b.transpose(outputs[0], {0, 2, 1, 3}), call_.b.ints({0, 0, -1})});
  }

  OnnxCall& call_;
  const Cell& cell_;
  std::vector<std::string> states_;
  Weights weights_;
  bool has_biases_ = false;
  int64_t layers_ = 1, directions_ = 1;
};

void write(OnnxCall& call, const Cell& cell) {
  if (call.takes("data")) call.refuse("it takes a packed sequence");
  std::vector<std::string> states;
  if (call.value("hx").kind == OnnxValue::Kind::list) {
    for (const auto& state : call.tensors("hx")) states.push_back(state.name);
  } else {
    states.push_back(call.tensor("hx").name);
  }
  Recurrent(call, cell, states).write();
}

}  // namespace

void add_onnx_recurrent(OnnxOperators& operators) {
  const auto cell = [&](const char* name, const Cell& how) {
    operators[name] = [how](OnnxCall& call) { write(call, how); };
  };
  using Names = std::vector<std::string>;
  cell("lstm", {"LSTM", 4, {0, 3, 1, 2}, {}});  // input, forget, cell, output -> input, output, forget, cell
  cell("gru",
       {"GRU", 3, {1, 0, 2}, {{"linear_before_reset", int64_t{1}}}});  // reset, update, new -> update, reset, new
  cell("rnn_tanh", {"RNN", 1, {0}, {{"activations", Names{"Tanh"}}}});
  cell("rnn_relu", {"RNN", 1, {0}, {{"activations", Names{"Relu"}}}});
}

}  // namespace troupe
