// The network of examples/digits for programs in other languages: CMake makes
// build/release/examples/libdigits_predictor.so of it (examples/CMakeLists.txt), and predict.py beside it uses that.
#include "../../digits/digits.hpp"

#include <troupe/troupe.hpp>

TROUPE_PREDICTOR(digits, Digits)
