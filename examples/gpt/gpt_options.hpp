// What the GPT is, for code, command line and config file.
#pragma once

#include <troupe/troupe.hpp>

#include <cstdint>
#include <filesystem>

/// gelu: by the error function, as nanoGPT has it; gelu_new: by tanh, as GPT-2 has it.
enum class GptActivation { gelu, gelu_new };
TROUPE_CHOICES(GptActivation, {gelu, "gelu"}, {gelu_new, "gelu_new"},
               {gelu_new, "gelu_pytorch_tanh", ::troupe::ChoiceUse::accepted})

struct GptOptions {
  int64_t layers = 4, heads = 4, width = 128, context = 128, vocabulary = 256;
  double dropout = 0.1, lr = 2e-3, weight_decay = 0.1;
  int64_t warmup_steps = 50, generate = 400;
  double temperature = 0.7;
  bool activation_checkpoints = false;
  GptActivation activation = GptActivation::gelu;
  std::filesystem::path from_pretrained = {}, save_pretrained = {};
  int64_t max_shard_bytes = 5'000'000'000;
};
TROUPE_OPTIONS(GptOptions, (layers, "blocks of attention and MLP"), (heads, "heads of attention; they divide width"),
               (width, "numbers that stand for a token"), (context, "tokens that one can look back to"),
               (vocabulary, "number of tokens"), (dropout, "share left out in training"), (lr, "highest rate of AdamW"),
               (weight_decay, "of matrices"), (warmup_steps, "steps to the highest rate, a cosine falls from there"),
               (generate, "bytes that predict adds to the prompt"),
               (temperature, "of predict: below 1 likely bytes are drawn more often"),
               (activation_checkpoints, "compute each block again in the backward pass, in place of keeping it"),
               (activation, "of the MLP; gelu_new, by tanh, is GPT-2's"),
               (from_pretrained, "folder of a GPT-2 of Hugging Face's, which gives the sizes and the first weights"),
               (save_pretrained, "folder that gets such a GPT-2 at the end of fit, or of validate"),
               (max_shard_bytes, "a file of save_pretrained holds no more"))
