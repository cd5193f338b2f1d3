// Weights that others trained and put into packages of PyPI's: the outputs are those of their own programs.
#include "examples/transfer/printed_text.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/load_weights.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>

namespace troupe {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TrainedModels : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    files_ = new TempDir;
    python_output("trained_models.py", "'" + files_->path().string() + "'");
  }
  static void TearDownTestSuite() {
    delete files_;
    files_ = nullptr;
  }
  static std::string file(const char* name) { return (*files_ / name).string(); }
  static torch::Tensor tensor(const char* file_name, const char* name) {
    return ShardedSafetensors(file(file_name), TensorMemory::copied).read(name);
  }

 private:
  static inline TempDir* files_ = nullptr;
};

/// legere's CompactCRNN: convolutions, a recurrence over the columns, and the characters.
struct TextRecognizer : torch::nn::Module {
  TextRecognizer() {
    register_module("convolutions", convolutions);
    register_module("rnn", rnn);
    register_module("head", head);
    eval();
  }
  torch::Tensor forward(const torch::Tensor& images) {
    return head(std::get<0>(rnn(convolutions->forward(images).squeeze(2).transpose(1, 2))));
  }
  std::shared_ptr<printed_text::Convolutions> convolutions = std::make_shared<printed_text::Convolutions>();
  torch::nn::GRU rnn{torch::nn::GRUOptions(192, 128).batch_first(true).bidirectional(true)};
  torch::nn::Linear head{256, 122};
};

TEST_F(TrainedModels, OfPrintedTextReadAsInPython) {
  TextRecognizer model;
  load_weights(model, file("printed_text.pt"), {.rename = {{"^(stem|blocks)", "convolutions.$1"}}});
  const torch::NoGradGuard no_gradients;
  const auto logits = model.forward(tensor("printed_text.safetensors", "images"));
  const auto theirs = tensor("printed_text.safetensors", "logits");
  EXPECT_GT(theirs.abs().max().item<double>(), 1);
  EXPECT_TRUE(torch::allclose(logits, theirs, 1e-5, 1e-5)) << (logits - theirs).abs().max().item<double>();
}

TEST_F(TrainedModels, OfSentencesEncodeAsInPython) {
  torch::nn::Embedding tokens(32000, 256);
  load_weights(*tokens, file("sentences.safetensors"), {.prefix = "embedding.", .convert_dtype = true});
  const torch::NoGradGuard no_gradients;
  const auto ids = tensor("encoded.safetensors", "ids");
  const auto is_used = ids.ge(0).to(torch::kFloat).unsqueeze(2);
  const auto mean = (tokens(ids.clamp_min(0)) * is_used).sum(1) / is_used.sum(1);
  const auto vectors = mean / mean.norm(2, 1, /*keepdim=*/true);
  const auto theirs = tensor("encoded.safetensors", "vectors");
  EXPECT_TRUE(torch::allclose(vectors, theirs, 1e-5, 1e-5)) << (vectors - theirs).abs().max().item<double>();
}

TEST_F(TrainedModels, OfAnotherArchitectureAreRefusedByTheirFirstTenDifferences) {
  TextRecognizer model;
  const auto before = model.head->weight.clone();
  EXPECT_THAT(refusal([&] { load_weights(model, file("printed_text.pt")); }),
              AllOf(HasSubstr("printed_text.pt does not fit the module, which is unchanged: 78 missing in it: "),
                    HasSubstr("convolutions.stem.0.weight"), HasSubstr("and 68 more; 78 left over in it: "),
                    HasSubstr("stem.0.weight")));
  EXPECT_TRUE(torch::equal(model.head->weight, before));
  torch::nn::Embedding smaller(1000, 64);
  EXPECT_THAT(
      refusal([&] { load_weights(*smaller, file("sentences.safetensors"), {.prefix = "embedding."}); }),
      HasSubstr("does not fit the module, which is unchanged: 1 that differs: weight is [32000, 256] Half in it and "
                "[1000, 64] Float here"));
}

}  // namespace
}  // namespace troupe
