// A captured function's call while it is recorded.
#pragma once

#include "troupe/runtime/capture/recording.hpp"
#include "troupe/runtime/fabric/fabric_rank.hpp"
#include "troupe/runtime/replica/step_capture.hpp"

#include <cstddef>
#include <vector>

namespace troupe {

struct FabricRank::Recording {
  StepCapture& capture;
  bool has_backward = false;
  std::vector<std::size_t> optimizers = {};  // that backward named
};

/// While it lives a recorder that is resumed is paused.
class NotRecorded {
 public:
  explicit NotRecorded(capture::Recorder& recorder) : recorder_(recorder) { recorder_.pause(); }
  ~NotRecorded() { recorder_.resume(); }
  NotRecorded(const NotRecorded&) = delete;
  NotRecorded& operator=(const NotRecorded&) = delete;

 private:
  capture::Recorder& recorder_;
};

}  // namespace troupe
