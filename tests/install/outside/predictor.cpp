#include "slope.hpp"

TROUPE_PREDICTOR(slope, Slope)
