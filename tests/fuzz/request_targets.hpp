// Requests of the server of examples/serve.
#pragma once

#include "examples/serve/requests.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <string>
#include <vector>

namespace troupe::fuzz {

inline void add_request_targets(std::vector<Target>& all, const TempDir&) {
  all.push_back({"request",
                 {R"({"id": 7, "input": [1, -2.5e-3, 0]})", R"({"input": [0, 1, 2], "id": "a\u00e9"})"},
                 [](const auto& bytes) {
                   const auto request = read_request({bytes, false}, 3);
                   if (request.error.empty()) {
                     (void)output_line(request, request.input.data(), request.input.size());
                   } else {
                     (void)error_line(request, request.error);
                     throw UsageError(request.error);
                   }
                 }});
}

}  // namespace troupe::fuzz
