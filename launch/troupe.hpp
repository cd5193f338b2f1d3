// The whole public API: #include <troupe/troupe.hpp>.
#pragma once

#include "troupe/modules/batch.hpp"
