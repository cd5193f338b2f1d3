#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <iostream>

struct OutsideOptions {
  double lr = 0.1;
};
TROUPE_OPTIONS(OutsideOptions, (lr, "learning rate"))

int main(int argc, char** argv) {
  OutsideOptions options;
  troupe::CommandLine command_line("outside", {troupe::option_group("model", options)});
  command_line.parse(argc, argv);

  const troupe::Batch batch{torch::ones({4, 3}), torch::zeros({4})};
  auto [x, y] = batch.get<2>();
  torch::nn::Linear layer(3, 1);
  troupe::summarize(*layer);
  layer->forward(x).squeeze(1).sub(y).square().mean().backward();
  std::cout << "batch of " << batch.size() << ", lr " << options.lr << '\n';
}
