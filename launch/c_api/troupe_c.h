/* Predictions of a trained module, for programs in C and in every language that calls C.
 *
 *     troupe_predictor* digits = NULL;
 *     if (troupe_predictor_open("digits", "last.safetensors", &digits) != TROUPE_OK) {
 *       fprintf(stderr, "%s\n", troupe_last_error());
 *       return 1;
 *     }
 *     troupe_predictor_predict(digits, images, 32, logits, 32 * 10);
 *     troupe_predictor_close(digits);
 *
 * These functions are in the shared library of whoever has a module in C++: launch/c_api/predictor_library.hpp says how
 * it is built. It names its modules; a checkpoint is data, and nothing in it is executed.
 *
 * Inputs and outputs are float32, row after row, the last axis fastest (numpy's C order). A row is one sample: the
 * input of `rows` samples has rows * (product of the input's shape) numbers. They are converted if the module computes
 * in another type of floating-point numbers.
 *
 * Two calls with one input may give numbers that differ in rounding, by about 1e-6 of the largest.
 *
 * Functions that can fail return a troupe_status. Out parameters are written on TROUPE_OK only. No C++ exception leaves
 * them. Strings that go in are in UTF-8 and end with a zero byte.
 *
 * Threads: all functions may be called from any thread, and any number of threads may use one predictor at the same
 * time; troupe_predictor_close is called once, when no other call uses it any more. LibTorch computes with as many
 * threads as OMP_NUM_THREADS says, which is read when the library is loaded.
 *
 * C89 with <stdint.h>, C99 and later, and C++.
 */
#ifndef TROUPE_LAUNCH_C_API_TROUPE_C_H
#define TROUPE_LAUNCH_C_API_TROUPE_C_H

#include <stdint.h>

#ifdef __GNUC__
#define TROUPE_C_API __attribute__((visibility("default")))
#else
#define TROUPE_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum troupe_status {
  TROUPE_OK = 0,
  TROUPE_BAD_ARGUMENT = 1,   /* a null pointer, a number out of range, a name that is not registered */
  TROUPE_BAD_CHECKPOINT = 2, /* the file cannot be read, or it does not fit the module */
  TROUPE_FAILED = 3          /* the module failed, or memory ran out */
} troupe_status;

typedef struct troupe_predictor troupe_predictor;

/* The version of Troupe, such as "0.2.0". */
TROUPE_C_API const char* troupe_version(void);

/* A sentence about the latest call on this thread that did not return TROUPE_OK; "" if there was none. It is valid
 * until the next such call on this thread. Never null. */
TROUPE_C_API const char* troupe_last_error(void);

/* Loads the weights at `checkpoint` into a new module of the class that the library registers as `name`, and computes a
 * row with it once. The caller closes *out. */
TROUPE_C_API troupe_status troupe_predictor_open(const char* name, const char* checkpoint, troupe_predictor** out);

/* Frees the predictor. Does nothing with a null pointer. */
TROUPE_C_API void troupe_predictor_close(troupe_predictor* predictor);

/* The number of axes of a row of the input: 3 for images of 1 x 28 x 28. */
TROUPE_C_API troupe_status troupe_predictor_input_rank(const troupe_predictor* predictor, int64_t* rank);

/* The sizes of these axes. `capacity` is the number of elements at `sizes`, and at least the rank. */
TROUPE_C_API troupe_status troupe_predictor_input_shape(const troupe_predictor* predictor, int64_t* sizes,
                                                        int64_t capacity);

/* The same for a row of the output. */
TROUPE_C_API troupe_status troupe_predictor_output_rank(const troupe_predictor* predictor, int64_t* rank);
TROUPE_C_API troupe_status troupe_predictor_output_shape(const troupe_predictor* predictor, int64_t* sizes,
                                                         int64_t capacity);

/* Reads `rows` rows at `input` and writes as many at `output`. `rows` is 1 or more; `capacity` is the number of floats
 * that fit at `output`, and at least rows * (product of the output's shape). The two do not overlap. */
TROUPE_C_API troupe_status troupe_predictor_predict(const troupe_predictor* predictor, const float* input, int64_t rows,
                                                    float* output, int64_t capacity);

/* Computes batches of `rows` rows, so that the first real one of that size takes no longer than the others. */
TROUPE_C_API troupe_status troupe_predictor_warm_up(const troupe_predictor* predictor, int64_t rows);

#ifdef __cplusplus
}
#endif

#endif
