// The latency of one call: Predictor, LibTorch's plain forward and a frozen TorchScript module alternate in one
// process.
//
//     inference latency [ROUNDS [PART]]   for bench/run inference; a PART of 100 makes that share of the calls
//     inference export FOLDER             for onnx_inference.py: models, a batch for each case and what comes of it
//
// A call is timed from before it to after its result was freed. A number is the middle of the rounds'.
#include "bench/cells.hpp"
#include "examples/digits/digits.hpp"

#include <troupe/troupe.hpp>

#include <torch/csrc/jit/api/module.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Call = std::function<torch::Tensor(const torch::Tensor&)>;

class Mlp : public troupe::Module {
 public:
  explicit Mlp(int64_t hidden) {
    namespace nn = torch::nn;
    net_ = register_module("net", nn::Sequential(nn::Linear(784, hidden), nn::ReLU(), nn::Linear(hidden, 10)));
    example_input_array = torch::zeros({1, 784});
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }

 private:
  torch::nn::Sequential net_{nullptr};
};

struct InferenceCase {
  std::string model;
  int64_t batch_size;
  int64_t calls;  // of a round

  std::string name() const { return model + " b" + std::to_string(batch_size); }
};

// The calls are those of bench/peers/onnx_inference.py.
const std::vector<InferenceCase> cases{{"784-16-10", 1, 4000},   {"784-16-10", 32, 4000}, {"784-128-10", 1, 4000},
                                       {"784-128-10", 32, 2000}, {"784-512-10", 1, 2000}, {"784-512-10", 32, 1000},
                                       {"cnn", 1, 1000},         {"cnn", 32, 200}};

// The same weights each time.
std::shared_ptr<troupe::Module> model_of(const InferenceCase& c) {
  torch::manual_seed(1);
  std::shared_ptr<troupe::Module> model;
  if (c.model == "cnn") {
    model = std::make_shared<Digits>(DigitsOptions());
  } else {
    model = std::make_shared<Mlp>(std::stoll(c.model.substr(c.model.find('-') + 1)));
  }
  model->eval();
  return model;
}

std::vector<torch::Tensor> inputs_of(const InferenceCase& c) {
  auto shape = model_of(c)->example_input_array.sizes().vec();
  shape[0] = c.batch_size;
  std::vector<torch::Tensor> inputs;
  for (int i = 0; i < 16; ++i) inputs.push_back(torch::randn(shape));
  return inputs;
}

torch::jit::Module frozen_script(const InferenceCase& c) {
  auto script = model_of(c)->to_torchscript();
  script.eval();
  auto frozen = torch::jit::freeze(script);
  return torch::jit::optimize_for_inference(frozen);
}

// The mode, which leaves out the bookkeeping for autograd, is the peers' fastest; Predictor is called as it is.
std::map<std::string, Call> calls_of(const InferenceCase& c) {
  const auto predictor = std::make_shared<troupe::Predictor>(model_of(c));
  const auto plain = model_of(c);
  const auto script = std::make_shared<torch::jit::Module>(frozen_script(c));
  const auto run_plain = [plain](const torch::Tensor& input) {
    const torch::InferenceMode inference;
    return plain->forward(input);
  };
  const auto run_script = [script](const torch::Tensor& input) {
    const torch::InferenceMode inference;
    return script->forward({input}).toTensor();
  };
  return {{"predictor", [predictor](const torch::Tensor& input) { return predictor->predict(input); }},
          {"plain", run_plain},
          {"torchscript", run_script}};
}

double quantile(std::vector<double>& times, double part) {
  const auto place = times.begin() + static_cast<int64_t>(part * static_cast<double>(times.size()));
  std::nth_element(times.begin(), place, times.end());
  return *place;
}

std::pair<double, double> latency(const Call& call, const std::vector<torch::Tensor>& inputs, int64_t count) {
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const auto& input = inputs[static_cast<std::size_t>(i) % inputs.size()];
    const auto start = Clock::now();
    call(input);
    times.push_back(troupe::bench::microseconds_since(start));
  }
  const double middle = quantile(times, 0.5);
  return {middle, quantile(times, 0.99)};
}

void require_same(const InferenceCase& c, const std::map<std::string, Call>& calls, const torch::Tensor& input) {
  const auto expected = calls.at("plain")(input);
  for (const auto& [who, call] : calls) {
    if (!call(input).allclose(expected, 1e-4, 1e-5)) throw troupe::UsageError(c.name() + ": " + who + " is wrong");
  }
}

void measure_case(const InferenceCase& c, int64_t rounds, int64_t count) {
  const auto inputs = inputs_of(c);
  const auto calls = calls_of(c);
  require_same(c, calls, inputs[0]);
  std::map<std::string, std::vector<double>> p50, p99;
  for (int64_t round = -1; round < rounds; ++round) {  // a round to warm up
    for (const auto& [who, call] : calls) {
      const auto [middle, slow] = latency(call, inputs, count);
      if (round < 0) continue;
      p50[who].push_back(middle);
      p99[who].push_back(slow);
    }
  }
  for (const auto& [who, all] : p50) {
    troupe::bench::print_cell({{"case", c.name()},
                               {"who", who},
                               {"p50", troupe::bench::median(all)},
                               {"p99", troupe::bench::median(p99[who])}});
  }
}

void write_numbers(const std::filesystem::path& path, const torch::Tensor& tensor) {
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(tensor.contiguous().const_data_ptr()),
             static_cast<std::streamsize>(tensor.nbytes()));
}

void export_models(const std::filesystem::path& folder) {
  for (const auto& c : cases) {
    const auto model = model_of(c);
    const auto input = inputs_of(c)[0];
    const torch::NoGradGuard no_gradients;
    model->to_onnx(folder / (c.model + ".onnx"));
    write_numbers(folder / (c.name() + " input"), input);
    write_numbers(folder / (c.name() + " output"), model->forward(input));
  }
}

}  // namespace

int main(int argc, char** argv) {
  using troupe::bench::count_of;
  return troupe::bench::run_cells(
      argc, argv, "inference latency|export [ROUNDS|FOLDER [PART]]", 1, 3, [](const auto& words) {
        torch::set_num_threads(1);
        if (words[0] == "latency") {
          const int64_t part = words.size() > 2 ? count_of(words[2]) : 100;
          for (const auto& c : cases) {
            measure_case(c, words.size() > 1 ? count_of(words[1]) : 5, std::max<int64_t>(c.calls * part / 100, 5));
          }
        } else if (words[0] == "export" && words.size() == 2) {
          export_models(words[1]);
        } else {
          throw troupe::UsageError("'" + words[0] + "' is neither latency nor export with a folder");
        }
      });
}
