// What others say to a run, and a run to others, over the socket in its folder; and what a scrape may be.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/live/live_message.hpp"
#include "troupe/runtime/live/prometheus.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace troupe::fuzz {

inline void add_live_targets(std::vector<Target>& all, const TempDir&) {
  using namespace live;
  all.push_back({"live request",
                 {line_of(Watch{true, true, true, true, true}), line_of(StopRunRequest{"enough"}),
                  line_of(CheckpointRequest{}), line_of(ValidateRequest{}), line_of(SetRateRequest{1e-3})},
                 [](const std::string& bytes) { (void)line_of(request_from_line(bytes)); }});
  State state;
  state.run = "digits/version_3";
  state.devices = {"cpu"};
  state.total_batches = 100;
  state.seconds_left = 1.5;
  state.metrics = {{"loss", std::nan("")}, {"val_acc", 0.5}};
  state.curves = {{"loss", {3, 2, std::nan("")}}};
  state.phases = PhaseReport{"fit", 60, 25, {{"forward", 30, 25, 2}}, {}, {{"forward", 29, 31, 3}}, "raise it"};
  state.workers = {"worker 0 is in training_step"};
  all.push_back(
      {"live message",
       {line_of(Hello{1, "0.2.0", "digits/version_3", "fit", 42, true}), line_of(state),
        line_of(ProgressState{.max_epochs = 3, .total_batches = 5, .metrics = {{"loss", 0.5}}}),
        line_of(Event(RunStarted{Stage::fit, "runs/digits/version_3"})),
        line_of(Event(TrainBatchEnded{{1, 2, 3, 4, 5}, {{"loss", 0.5}}})),
        line_of(Event(CheckpointSaved{"a.safetensors"})),
        line_of(Event(RunEnded{{}, {{"loss", HUGE_VAL}}, "enough", true})), line_of(RequestAnswer{true, "watching"})},
       [](const std::string& bytes) {
         if (const auto message = message_from_line(bytes)) (void)line_of(*message);
       }});
  all.push_back({"scrape",
                 {"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9100\r\nAccept: text/plain\r\n\r\n",
                  "HEAD /metrics?a=b HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\nhost:localhost\r\n\r\n"},
                 [](const std::string& bytes) {
                   const auto answer = scrape_answer(bytes, [] { return prometheus_text(State()); });
                   if (!answer || !answer->starts_with("HTTP/1.1 200 OK")) throw UsageError("no scrape");
                 }});
}

}  // namespace troupe::fuzz
