/* A program in C that c_api_test compiles as a user would, against a library of examples/serve: CHECKPOINT. It predicts
 * two blank images and prints the version, the shapes and the logits. */
#include "launch/c_api/troupe_c.h"

#include <stdio.h>
#include <stdlib.h>

static void require(troupe_status status) {
  if (status == TROUPE_OK) return;
  fprintf(stderr, "%d: %s\n", (int)status, troupe_last_error());
  exit(1);
}

static void print_shape(const int64_t* sizes, int64_t rank) {
  int64_t i;
  for (i = 0; i < rank; ++i) printf("%d ", (int)sizes[i]);
  printf("\n");
}

int main(int argc, char** argv) {
  static float images[2 * 784], logits[2 * 10];
  troupe_predictor* digits = NULL;
  int64_t rank = 0, sizes[8];
  int i;
  if (argc != 2) return 2;
  printf("%s\n", troupe_version());
  require(troupe_predictor_open("digits", argv[1], &digits));
  require(troupe_predictor_input_rank(digits, &rank));
  require(troupe_predictor_input_shape(digits, sizes, 8));
  print_shape(sizes, rank);
  require(troupe_predictor_output_rank(digits, &rank));
  require(troupe_predictor_output_shape(digits, sizes, 8));
  print_shape(sizes, rank);
  require(troupe_predictor_warm_up(digits, 2));
  require(troupe_predictor_predict(digits, images, 2, logits, 2 * 10));
  for (i = 0; i < 2 * 10; ++i) printf("%.9g ", logits[i]);
  printf("\n");
  troupe_predictor_close(digits);
  return 0;
}
