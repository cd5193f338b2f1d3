// Fine-tunes the GPT of examples/gpt on another text with low-rank adapters: of its 0.84 million parameters they are 57
// thousand, and a checkpoint has these alone.
//
//     gpt fit
//     lora fit --model.weights PATH_OF_GPTS_CHECKPOINT --data.files my_text
//     lora predict --model.weights PATH_OF_GPTS_CHECKPOINT --ckpt_path best --data.prompt "You may not "
//     lora fit --model.weights PATH_OF_GPTS_CHECKPOINT --data.files my_text --model.merged merged.pth
#include "lora_gpt.hpp"

int main(int argc, char** argv) {
  return troupe::main<LoraGpt, TextData>(argc, argv, {.trainer = {.max_epochs = 5, .log_every_n_steps = 10}});
}
