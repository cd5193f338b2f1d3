// Training steps of random networks, recorded and replayed, against the same steps computed the plain way: losses,
// gradients, running statistics and the generator's state are equal to the bit. A network that is not is printed.
#include "tests/support/same_bits.hpp"
#include "troupe/runtime/capture/agreement.hpp"
#include "troupe/runtime/capture/program.hpp"
#include "troupe/runtime/capture/recording.hpp"

#include <ATen/autocast_mode.h>
#include <c10/util/StringUtil.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace troupe::capture {
namespace {

using Tensors = std::vector<torch::Tensor>;

constexpr int networks = 400;
constexpr int64_t most_elements = 1500;

Tensors copies_of(const Tensors& tensors) {
  Tensors copies;
  for (const auto& each : tensors) copies.push_back(each.defined() ? each.detach().clone() : each);
  return copies;
}

/// A network and its batch: layers that each add one to the values that were computed so far.
struct Network {
  struct Layer {
    std::string text;
    std::function<torch::Tensor(const Tensors& values)> apply;
  };

  torch::Tensor loss() const {
    Tensors values = {batch};
    at::autocast::set_autocast_enabled(at::kCPU, has_autocast);
    for (const auto& layer : layers) values.push_back(layer.apply(values));
    auto loss = criterion(values.back());
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();
    return loss;
  }
  std::string to_text() const {
    std::string text = c10::str("batch ", batch.scalar_type(), " ", batch.sizes(), has_autocast ? ", autocast" : "",
                                adds_gradients ? ", adds to gradients" : "", "\n");
    for (const auto& layer : layers) text += "  " + layer.text + "\n";
    return text + "  " + criterion_text;
  }

  torch::Tensor batch, target;
  std::vector<Layer> layers;
  std::string criterion_text;
  std::function<torch::Tensor(const torch::Tensor& output)> criterion;
  Tensors parameters, buffers;
  bool has_autocast = false;
  bool adds_gradients = false;  // they are there before the step
};

/// Draws networks, and new batches for them.
class Maker {
 public:
  explicit Maker(uint32_t seed) : engine_(seed), generator_(at::detail::createCPUGenerator(seed)) {}

  Network network() {
    Network made;
    network_ = &made;
    const std::vector<std::vector<int64_t>> shapes = {{4, 6}, {3, 2, 6, 6}, {2, 5, 4}, {3, 4}};
    const std::size_t kind = below(shapes.size());
    made.has_autocast = below(6) == 0;
    made.adds_gradients = below(3) == 0;
    has_tokens_ = kind == 3;
    made.batch = torch::empty(shapes[kind], has_tokens_ ? torch::kInt64 : torch::kFloat32);
    made.target = torch::empty({0});
    new_batch(made);
    values_ = {made.batch};
    if (has_tokens_) add_embedding();
    const std::size_t layers = 2 + below(9);
    while (made.layers.size() < layers) add_layer();
    add_criterion();
    values_.clear();
    return made;
  }
  void new_batch(const Network& network) {
    const torch::NoGradGuard no_gradients;
    if (network.batch.is_floating_point()) {
      network.batch.normal_(0, 1, generator_);
    } else {
      network.batch.random_(0, tokens, generator_);
    }
    if (network.target.is_floating_point()) {
      network.target.uniform_(0, 1, generator_);
    } else {
      network.target.random_(0, classes, generator_);
    }
  }
  /// How often each kind of layer was drawn.
  static std::map<std::string, int>& drawn() {
    static std::map<std::string, int> drawn;
    return drawn;
  }

 private:
  static constexpr int64_t tokens = 7, classes = 3;
  using Unary = std::function<torch::Tensor(const torch::Tensor&)>;

  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(engine_()) % limit; }
  int64_t index_below(int64_t limit) { return static_cast<int64_t>(below(static_cast<std::size_t>(limit))); }
  const torch::Tensor& now() const { return values_.back(); }

  torch::Tensor parameter(torch::IntArrayRef sizes, double scale = 0.5) {
    network_->parameters.push_back(torch::empty(sizes).normal_(0, scale, generator_).requires_grad_());
    return network_->parameters.back();
  }
  void add(const std::string& name, std::function<torch::Tensor(const Tensors&)> apply) {
    const torch::NoGradGuard no_gradients;
    values_.push_back(apply(values_));
    network_->layers.push_back({c10::str(name, " -> ", now().sizes()), std::move(apply)});
    ++drawn()[name.substr(0, name.find_first_of(" ("))];
  }
  /// On the value before.
  void on_last(const std::string& name, Unary apply) {
    const std::size_t from = values_.size() - 1;
    add(name, [from, apply = std::move(apply)](const Tensors& values) { return apply(values[from]); });
  }
  /// Of the value before and another one that satisfies.
  template <class Fits>
  std::optional<std::size_t> other(const Fits& fits) {
    std::vector<std::size_t> fitting;
    for (std::size_t i = has_tokens_ ? 1 : 0; i < values_.size(); ++i) {
      if (fits(values_[i])) fitting.push_back(i);
    }
    return fitting.empty() ? std::nullopt : std::optional(fitting[below(fitting.size())]);
  }

  void add_layer() {
    const int64_t dims = now().dim();
    const bool is_image = dims == 4 && now().size(2) >= 2 && now().size(3) >= 2;
    const std::size_t kind = below(is_image ? 10 : 8);
    if (kind < 2) return add_function();
    if (kind < 3) return add_of_two();
    if (kind < 4) return add_shape();
    if (kind < 5) return add_reduction();
    if (kind < 6) return add_choice();
    if (kind < 8 || !is_image) return dims == 3 && below(2) == 0 ? add_sequence_layer() : add_dense();
    add_image_layer();
  }

  void add_embedding() {
    const auto weight = parameter({tokens, 5});
    on_last("embedding", [weight](const auto& x) { return torch::embedding(weight, x); });
  }

  void add_function() {
    const int64_t dim = index_below(now().dim());
    const double p = 0.2 + 0.1 * static_cast<double>(below(5));
    const std::vector<std::pair<std::string, Unary>> functions = {
        {"relu", [](const auto& x) { return torch::relu(x); }},
        {"gelu", [](const auto& x) { return torch::gelu(x); }},
        {"gelu (tanh)", [](const auto& x) { return torch::gelu(x, "tanh"); }},
        {"tanh", [](const auto& x) { return torch::tanh(x); }},
        {"sigmoid", [](const auto& x) { return torch::sigmoid(x); }},
        {"silu", [](const auto& x) { return torch::silu(x); }},
        {"leaky_relu", [](const auto& x) { return torch::leaky_relu(x, 0.1); }},
        {"softmax", [dim](const auto& x) { return torch::softmax(x, dim); }},
        {"log_softmax", [dim](const auto& x) { return torch::log_softmax(x, dim); }},
        {c10::str("dropout ", p), [p](const auto& x) { return torch::dropout(x, p, true); }},
        {"dropout_",
         [](const auto& x) {
           auto y = x * 2;
           return torch::dropout_(y, 0.3, true);
         }},
        {"clamp", [](const auto& x) { return x.clamp(-1, 0.8); }},
        {"exp", [](const auto& x) { return x.clamp(-3, 2).exp(); }},
        {"log1p", [](const auto& x) { return x.abs().log1p(); }},
        {"pow", [](const auto& x) { return x.tanh().pow(3); }},
        {"pow (fraction)", [](const auto& x) { return (x.abs() + 0.1).pow(1.5); }},
        {"sqrt", [](const auto& x) { return (x.abs() + 0.01).sqrt(); }},
        {"noise", [](const auto& x) { return x + 0.1 * torch::randn_like(x) * torch::rand({x.size(-1)}); }},
        {"in place", [](const auto& x) { return (x * 0.5).add_(1).mul_(x.detach().sigmoid()).relu_(); }},
        {"cumsum", [dim](const auto& x) { return x.cumsum(dim) / x.size(dim); }},
    };
    const auto& [name, function] = functions[below(functions.size())];
    on_last(name, function);
  }

  // With a number, a parameter of a shape that is broadcast, or an earlier value.
  void add_of_two() {
    using Binary = std::function<torch::Tensor(const torch::Tensor&, const torch::Tensor&)>;
    const std::vector<std::pair<std::string, Binary>> functions = {
        {"add", [](const auto& a, const auto& b) { return a + b; }},
        {"sub", [](const auto& a, const auto& b) { return torch::sub(a, b, 0.5); }},
        {"mul", [](const auto& a, const auto& b) { return a * b.tanh(); }},
        {"div", [](const auto& a, const auto& b) { return a / (b.abs() + 1); }},
        {"maximum", [](const auto& a, const auto& b) { return torch::maximum(a, b); }},
    };
    const auto& [name, function] = functions[below(functions.size())];
    const std::size_t kind = below(4);
    if (kind == 0) {
      return on_last("number", [](const auto& x) { return (2 - x) * 0.75 + x / 3 - (x - 1) * 2; });
    }
    if (kind == 1) {
      const auto same = other([&](const auto& x) { return x.sizes() == now().sizes(); });
      return add(c10::str(name, " (value ", *same, ")"),
                 [function, same, from = values_.size() - 1](const Tensors& v) { return function(v[from], v[*same]); });
    }
    auto sizes = now().sizes().vec();
    for (auto& size : sizes) size = below(2) == 0 ? 1 : size;
    if (kind == 2) sizes.erase(sizes.begin());
    const auto weight = parameter(sizes);
    on_last(c10::str(name, " (parameter ", weight.sizes(), ")"),
            [function, weight](const auto& x) { return function(x, weight); });
  }

  void add_shape() {
    const int64_t dims = now().dim(), dim = index_below(dims), to = index_below(dims), size = now().size(dim);
    switch (below(8)) {
      case 0: return on_last(c10::str("transpose ", dim, " ", to), [=](const auto& x) { return x.transpose(dim, to); });
      case 1: {
        std::vector<int64_t> order(static_cast<std::size_t>(dims));
        std::iota(order.begin(), order.end(), int64_t{0});
        std::ranges::rotate(order, order.begin() + to);
        return on_last(c10::str("permute ", torch::IntArrayRef(order)),
                       [order](const auto& x) { return x.permute(order); });
      }
      case 2: {
        if (size < 3) return;
        const int64_t begin = index_below(size - 2), step = 1 + index_below(2);
        return on_last(c10::str("slice ", dim, " from ", begin, " by ", step),
                       [=](const auto& x) { return x.slice(dim, begin, size, step); });
      }
      case 3:
        if (now().numel() * 2 > most_elements) return;
        return on_last(c10::str("cat ", dim), [dim](const auto& x) {
          return torch::cat({x, x.relu(), x * 0.5}, dim).slice(dim, 1);
        });
      case 4: {
        const auto same = other([&](const auto& x) { return x.sizes() == now().sizes(); });
        if (dims > 3 || now().numel() * 2 > most_elements) return;
        return add(c10::str("stack ", dim, " (value ", *same, ")"), [=, from = values_.size() - 1](const Tensors& v) {
          return torch::stack({v[from], v[*same]}, dim);
        });
      }
      case 5: {
        if (dims < 3) return;
        auto sizes = now().sizes().vec();
        sizes[1] *= sizes[0];
        sizes.erase(sizes.begin());
        return on_last(c10::str("reshape ", torch::IntArrayRef(sizes)),
                       [sizes](const auto& x) { return x.reshape(sizes); });
      }
      case 6: {
        const auto parts = (size + 1) / 2;
        return on_last(c10::str("chunk ", dim), [=](const auto& x) {
          const auto all = x.split(parts, dim);
          return all.front() * all.back().mean(dim, /*keepdim=*/true);
        });
      }
      default:
        return on_last(c10::str("flip ", dim),
                       [dim](const auto& x) { return x.flip(dim).unsqueeze(dim).squeeze(dim); });
    }
  }

  void add_reduction() {
    const int64_t dims = now().dim(), dim = index_below(dims);
    const bool keeps = below(2) == 0 || dims < 3;
    const std::string at = c10::str(" ", dim, keeps ? " kept" : "");
    switch (below(6)) {
      case 0: return on_last("mean" + at, [=](const auto& x) { return x.mean(dim, keeps); });
      case 1: return on_last("sum" + at, [=](const auto& x) { return x.sum(dim, keeps) * 0.3; });
      case 2: return on_last("amax" + at, [=](const auto& x) { return x.amax(dim, keeps); });
      case 3: return on_last("max" + at, [=](const auto& x) { return std::get<0>(x.max(dim, keeps)); });
      case 4: return on_last("logsumexp" + at, [=](const auto& x) { return x.logsumexp(dim, keeps); });
      default: return on_last("whole", [](const auto& x) { return x * x.sigmoid().sum() - x.mean(); });
    }
  }

  void add_choice() {
    const int64_t dim = index_below(now().dim()), size = now().size(dim);
    const auto sizes = now().sizes().vec();
    switch (below(5)) {
      case 0: {
        const auto fallback = parameter({sizes.back()});
        return on_last("where", [fallback](const auto& x) { return torch::where(x > 0.1, x, fallback); });
      }
      case 1: return on_last("masked_fill", [](const auto& x) { return x.masked_fill(x > 0.7, -0.25); });
      case 2: {  // with numbers that the network keeps
        const auto index = torch::empty({size}, torch::kInt64).random_(0, size, generator_);
        return on_last(c10::str("index_select ", dim), [=](const auto& x) { return x.index_select(dim, index); });
      }
      case 3: {
        const auto index = torch::empty(sizes, torch::kInt64).random_(0, size, generator_);
        return on_last(c10::str("gather ", dim), [=](const auto& x) { return x.gather(dim, index) * 0.5; });
      }
      default:  // with numbers that are made in each step
        return on_last("index", [](const auto& x) {
          return x.index({torch::tensor({int64_t{0}, x.size(0) - 1, int64_t{0}})}) +
                 torch::arange(3).reshape(shape_of_first(x, 3));
        });
    }
  }
  static std::vector<int64_t> shape_of_first(const torch::Tensor& x, int64_t size) {
    std::vector<int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
    shape.front() = size;
    return shape;
  }

  void add_dense() {
    const int64_t in = now().size(-1), out = 2 + index_below(5);
    if (now().numel() / in * out > most_elements) return;
    switch (below(4)) {
      case 0: {
        const auto weight = parameter({out, in}), bias = parameter({out});
        return on_last(c10::str("linear ", in, " ", out),
                       [=](const auto& x) { return torch::linear(x, weight, bias); });
      }
      case 1: {
        const auto weight = parameter({out, in});
        return on_last(c10::str("linear (no bias) ", in, " ", out),
                       [=](const auto& x) { return torch::linear(x, weight); });
      }
      case 2: {
        const auto weight = parameter({in, out});
        return on_last(c10::str("matmul ", in, " ", out), [=](const auto& x) { return x.matmul(weight); });
      }
      default: {
        const auto weight = parameter({in}), bias = parameter({in});
        return on_last("layer_norm", [=](const auto& x) { return torch::layer_norm(x, {in}, weight, bias); });
      }
    }
  }

  void add_sequence_layer() {
    const int64_t in = now().size(-1);
    if (now().numel() * 2 > most_elements) return;
    if (below(3) == 0) {
      return on_last("bmm", [in](const auto& x) { return x.bmm(x.transpose(1, 2)).bmm(x) / in; });
    }
    const auto weight = parameter({12, in}), bias = parameter({12});
    const bool is_causal = below(2) == 0;
    const double p = below(3) == 0 ? 0.2 : 0;
    on_last(c10::str("scaled_dot_product_attention", is_causal ? " (causal)" : "", " dropout ", p), [=](const auto& x) {
      const auto qkv = torch::linear(x, weight, bias).view({x.size(0), x.size(1), 3, 2, 2}).permute({2, 0, 3, 1, 4});
      const auto mixed = torch::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {}, p, is_causal);
      return mixed.transpose(1, 2).reshape({x.size(0), x.size(1), 4});
    });
  }

  void add_image_layer() {
    const int64_t channels = now().size(1);
    switch (below(5)) {
      case 0: {
        const int64_t out = 1 + index_below(3), kernel = 1 + index_below(3), stride = 1 + index_below(2);
        const auto weight = parameter({out, channels, kernel, kernel}), bias = parameter({out});
        const bool has_bias = below(2) == 0;
        return on_last(c10::str("conv2d ", channels, " ", out, " kernel ", kernel, " stride ", stride),
                       [=](const auto& x) {
                         return torch::conv2d(x, weight, has_bias ? bias : torch::Tensor(), stride, kernel / 2);
                       });
      }
      case 1:
      case 2: {
        const auto weight = parameter({channels}), bias = parameter({channels});
        const auto mean = torch::zeros({channels}), variance = torch::ones({channels});
        network_->buffers.insert(network_->buffers.end(), {mean, variance});
        const bool trains = below(4) != 0;
        return on_last(trains ? "batch_norm" : "batch_norm (evaluates)", [=](const auto& x) {
          return torch::batch_norm(x, weight, bias, mean, variance, trains, 0.1, 1e-5, false);
        });
      }
      case 3: return on_last("max_pool2d", [](const auto& x) { return torch::max_pool2d(x, 2, 1 + x.size(2) % 2); });
      default: return on_last("avg_pool2d", [](const auto& x) { return torch::avg_pool2d(x, 2, 1); });
    }
  }

  void add_criterion() {
    const int64_t rows = now().size(0), in = now().numel() / rows;
    const auto weight = parameter({classes, in}, 0.3), bias = parameter({classes});
    on_last("head", [=](const auto& x) { return torch::linear(x.reshape({rows, in}), weight, bias); });
    const std::size_t kind = below(6);
    auto& target = network_->target;
    target = kind < 2 ? torch::empty({rows}, torch::kInt64) : torch::empty({rows, classes});
    new_batch(*network_);
    namespace F = torch::nn::functional;
    const std::vector<std::pair<std::string, std::function<torch::Tensor(const torch::Tensor&)>>> criteria = {
        {"cross_entropy", [y = target](const auto& x) { return F::cross_entropy(x, y); }},
        {"cross_entropy (smoothed)",
         [y = target](const auto& x) {
           return F::cross_entropy(x, y, F::CrossEntropyFuncOptions().label_smoothing(0.1).reduction(torch::kSum));
         }},
        {"mse_loss", [y = target](const auto& x) { return F::mse_loss(x, y); }},
        {"l1_loss", [y = target](const auto& x) { return F::l1_loss(x, y); }},
        {"smooth_l1_loss", [y = target](const auto& x) { return F::smooth_l1_loss(x, y); }},
        {"binary_cross_entropy_with_logits",
         [y = target](const auto& x) { return F::binary_cross_entropy_with_logits(x, y); }},
    };
    network_->criterion_text = criteria[kind].first;
    network_->criterion = criteria[kind].second;
    ++drawn()[network_->criterion_text.substr(0, network_->criterion_text.find(' '))];
  }

  std::mt19937 engine_;
  at::Generator generator_;
  Network* network_ = nullptr;
  Tensors values_;
  bool has_tokens_ = false;
};

/// A network's step, as it is recorded and replayed and as it is computed.
class Step {
 public:
  explicit Step(const Network& network) : network_(network) {
    for (const auto& each : network_.parameters) {
      homes_.push_back(torch::zeros_like(each, torch::TensorOptions().requires_grad(false)));
    }
  }

  /// Loss, gradients and buffers of the step as the network computes it.
  Tensors plain(Recorder* recorder = nullptr) {
    for (std::size_t i = 0; i < homes_.size(); ++i) {
      network_.parameters[i].mutable_grad() = network_.adds_gradients ? homes_[i] : torch::Tensor();
    }
    const Recorded recorded(recorder);
    auto loss = network_.loss();
    if (recorder) recorder->mark();
    loss.backward();
    Tensors left = {std::move(loss)};
    for (const auto& each : network_.parameters) left.push_back(each.grad());
    left.insert(left.end(), network_.buffers.begin(), network_.buffers.end());
    return left;
  }
  Recording record() {
    Recorder recorder;
    recorder.give("batch", network_.batch);
    recorder.give("target", network_.target);
    for (const auto& each : network_.parameters) recorder.give("parameter", each);
    for (const auto& each : network_.buffers) recorder.give("buffer", each);
    for (const auto& each : homes_) recorder.give("gradient", each);
    const auto left = plain(&recorder);
    request_ = {};
    has_result_.clear();
    for (std::size_t i = 0; i < left.size(); ++i) {
      const auto view = left[i].defined() ? recorder.view_of(left[i]) : std::nullopt;
      has_result_.push_back(view.has_value());
      if (!view) continue;
      request_.results.push_back(*view);
      // Gradients lie where they are wanted, as long as they are in memory of their own.
      const bool is_gradient = i > 0 && i <= homes_.size();
      const auto& memory = recorder.recording().memories[view->memory];
      if (is_gradient && memory.kind == Memory::Kind::computed && view->offset == 0 &&
          memory.bytes == left[i].nbytes() && left[i].strides() == homes_[i - 1].strides() &&
          !request_.places.contains(view->memory)) {
        request_.places[view->memory] = homes_[i - 1];
      }
    }
    return recorder.take();
  }
  void build(const Recording& recording) { program_ = std::make_unique<Program>(recording, request_); }
  Tensors replay() {
    program_->run(0);
    program_->run(1);
    Tensors left;
    std::size_t next = 0;
    for (const bool has : has_result_) left.push_back(has ? program_->results()[next++] : torch::Tensor());
    return left;
  }
  const Program& program() const { return *program_; }
  /// What a step changes beside its results.
  Tensors state() const {
    Tensors all = network_.buffers;
    all.insert(all.end(), homes_.begin(), homes_.end());
    return all;
  }
  void set_state(const Tensors& state) const {
    const auto all = this->state();
    for (std::size_t i = 0; i < all.size(); ++i) all[i].copy_(state[i]);
  }

 private:
  const Network& network_;
  Tensors homes_;  // of gradients
  ProgramRequest request_;
  std::vector<bool> has_result_;
  std::unique_ptr<Program> program_;
};

/// What went wrong; empty: nothing.
std::string problem_of(const Network& network, Maker& maker) {
  Step step(network);
  const auto first = step.record();
  maker.new_batch(network);
  auto second = step.record();
  if (!second.refusal.empty()) return "it is not captured: " + second.refusal;
  if (const auto what = difference(first, second); !what.empty()) return "two steps differ: " + what;
  mark_kept(first, second);
  step.build(second);
  second = {};
  at::Generator generator = at::globalContext().defaultGenerator(torch::kCPU);
  for (int replay = 0; replay < 3; ++replay) {
    maker.new_batch(network);
    const auto before = copies_of(step.state());
    const auto drawn_before = generator.get_state();
    const auto plain = copies_of(step.plain());
    const auto drawn = generator.get_state();
    step.set_state(before);
    generator.set_state(drawn_before);
    const auto replayed = step.replay();
    for (std::size_t i = 0; i < plain.size(); ++i) {
      if (has_same_bits(plain[i], replayed[i])) continue;
      return c10::str("replay ", replay, ", result ", i, " of ", network.parameters.size(), " gradients and ",
                      network.buffers.size(), " buffers, plain\n", plain[i], "\nreplayed\n", replayed[i], "\n",
                      step.program().to_text());
    }
    if (!generator.get_state().equal(drawn)) return "other numbers were drawn";
  }
  return step.program().is_current() ? "" : "the program is out of date";
}

TEST(RandomNetworks, ComeToTheSameBitsInReplays) {
  torch::set_num_threads(1);  // threads that wait for each other take longer than such small steps
  Maker::drawn().clear();
  int failures = 0;
  for (uint32_t seed = 0; seed < networks && failures < 3; ++seed) {
    torch::manual_seed(seed);
    Maker maker(seed);
    const auto network = maker.network();
    std::string problem;
    try {
      problem = problem_of(network, maker);
    } catch (const std::exception& error) {
      problem = std::string("it throws ") + error.what();
    }
    if (problem.empty()) continue;
    ++failures;
    ADD_FAILURE() << "seed " << seed << ": " << problem << "\n" << network.to_text();
  }
  for (const char* name : {"linear",
                           "conv2d",
                           "batch_norm",
                           "layer_norm",
                           "relu",
                           "gelu",
                           "tanh",
                           "sigmoid",
                           "silu",
                           "softmax",
                           "log_softmax",
                           "dropout",
                           "max_pool2d",
                           "avg_pool2d",
                           "embedding",
                           "add",
                           "sub",
                           "mul",
                           "div",
                           "cat",
                           "stack",
                           "slice",
                           "transpose",
                           "permute",
                           "reshape",
                           "mean",
                           "sum",
                           "matmul",
                           "bmm",
                           "scaled_dot_product_attention",
                           "where",
                           "masked_fill",
                           "index_select",
                           "gather",
                           "clamp",
                           "exp",
                           "log1p",
                           "pow",
                           "sqrt",
                           "cross_entropy",
                           "mse_loss",
                           "l1_loss",
                           "smooth_l1_loss",
                           "binary_cross_entropy_with_logits"}) {
    EXPECT_GE(Maker::drawn()[name], 5) << name;
  }
}

}  // namespace
}  // namespace troupe::capture
