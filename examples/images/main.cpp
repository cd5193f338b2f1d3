// Images in folders, one per class: trains a small residual network, on handwritten digits if --data.dir names no
// folder that is there: to 97 % of the test images and more.
//
//     images fit --trainer.max_epochs 12
//     images test --ckpt_path best
//     images fit --data.dir photos --data.rgb --data.size 64 --model.channels 3 --model.classes 5
#include "images.hpp"
#include "images_data.hpp"

int main(int argc, char** argv) {
  return troupe::main<Images, ImagesData>(argc, argv, {.trainer = {.max_epochs = 12, .log_every_n_steps = 10}});
}
