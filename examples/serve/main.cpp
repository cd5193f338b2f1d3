// Serves the network of examples/digits over a pipe: a line of JSON for each request on stdin, one for each answer on
// stdout, in their order. Requests that wait are computed together, as one batch.
//
//     digits fit --trainer.max_epochs 3 --trainer.default_root_dir out
//     serve out/digits/version_0/checkpoints/last.safetensors < requests.jsonl
//
// requests.hpp says what is in a line. A line that is no request is answered with an error, and the next one is served.
#include "../digits/digits.hpp"
#include "line_reader.hpp"
#include "requests.hpp"

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include <unistd.h>

// The answers of the requests that have an input, in their order.
torch::Tensor outputs_of(const std::vector<Request>& requests, const troupe::Predictor& predictor,
                         std::vector<int64_t> shape) {
  std::vector<float> inputs;
  for (const auto& request : requests) inputs.insert(inputs.end(), request.input.begin(), request.input.end());
  shape[0] = std::count_if(requests.begin(), requests.end(), [](const auto& each) { return each.error.empty(); });
  if (shape[0] == 0) return {};
  return predictor.predict(torch::from_blob(inputs.data(), shape)).contiguous();
}

std::string answers_to(const std::vector<Line>& lines, const troupe::Predictor& predictor,
                       const torch::Tensor& example) {
  std::vector<Request> requests;
  for (const auto& line : lines) requests.push_back(read_request(line, example[0].numel()));
  const auto outputs = outputs_of(requests, predictor, example.sizes().vec());
  std::string answers;
  int64_t row = 0;
  for (const auto& request : requests) {
    answers += request.error.empty() ? output_line(request, outputs[row].data_ptr<float>(), outputs[row].numel())
                                     : error_line(request, request.error);
    if (request.error.empty()) ++row;
  }
  return answers;
}

int main(int argc, char** argv) {
  constexpr std::size_t max_batch = 64, bytes_of_number = 32;
  const bool asks_for_help = argc == 2 && (argv[1] == std::string("--help") || argv[1] == std::string("-h"));
  if (argc != 2 || asks_for_help) {
    (asks_for_help ? std::cout : std::cerr) << "usage: serve CHECKPOINT < REQUESTS\n";
    return asks_for_help ? 0 : 2;
  }
  std::signal(SIGPIPE, SIG_IGN);  // whoever reads the answers may go away: the next write says so
  try {
    const auto model = troupe::load_from_checkpoint<Digits>(argv[1]);
    const auto example = model->example_input_array;
    const troupe::Predictor predictor(model, {.warm_up = {1, max_batch}});
    LineReader reader(STDIN_FILENO, 1024 + bytes_of_number * example[0].numel());
    for (auto lines = reader.next(max_batch); !lines.empty() && std::cout; lines = reader.next(max_batch)) {
      std::cout << answers_to(lines, predictor, example) << std::flush;
    }
    return std::cout ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "serve: " << error.what() << '\n';
    return 1;
  }
}
