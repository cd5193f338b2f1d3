// A small GPT that writes licences, byte by byte: from 8 bits a byte to 2.72 on the last tenth of the text, a licence
// that it has not seen, after 10 epochs (5 minutes on one core, --trainer.num_threads 1 --trainer.seed 1).
//
//     gpt fit
//     gpt predict --ckpt_path best --data.prompt "You may not "
//     gpt fit --data.files books --model.layers 6 --model.width 384
//     gpt fit --data.train train_000001.bin --data.val val_000000.bin --data.vocabulary 50304 --model.vocabulary 50304
//     gpt fit --model.from_pretrained gpt2 --model.save_pretrained tuned --data.train t.bin --data.val v.bin
//         --data.vocabulary 50257  (folders of Hugging Face's; tokens of GPT-2's)
#include "gpt.hpp"
#include "token_data.hpp"

int main(int argc, char** argv) {
  return troupe::main<Gpt, TokenData>(
      argc, argv, {.trainer = {.max_epochs = 10, .log_every_n_steps = 10, .gradient_clip_val = 1.0}});
}
