// The endpoint that Prometheus asks for a run's numbers: its text format 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/) over the little of HTTP/1.1 that a scrape needs.
#pragma once

#include "troupe/runtime/live/live_message.hpp"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace troupe::live {

/// The numbers of a run; docs/attach.md lists them.
std::string prometheus_text(const State& state);

/// A request that is longer is refused.
inline constexpr std::size_t longest_scrape = 8192;

/// What is answered to a client that has sent `received` so far, after which the connection is closed; nothing while
/// more has to come. GET and HEAD of /metrics get what `metrics` returns. A request whose Host is not this machine's
/// own name for itself (127.0.0.1, localhost) is refused: a page of somebody else's, whose name leads here, has sent
/// it. Throws nothing for whatever was received.
std::optional<std::string> scrape_answer(std::string_view received, const std::function<std::string()>& metrics);

}  // namespace troupe::live
