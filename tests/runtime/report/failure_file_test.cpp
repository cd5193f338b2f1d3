#include "troupe/runtime/report/failure_file.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(FailureFile, HasThePlaceTheSignalAndTheTime) {
  const Failure failure{.rank = 1,
                        .host = "node7",
                        .device = "cuda:0",
                        .stage = "fit",
                        .hook = "training_step",
                        .epoch = 2,
                        .batch_idx = 3,
                        .message = "out of \xFF luck"};
  EXPECT_EQ(failure_file(failure, "", 12.5), nlohmann::json::parse(R"({
    "rank": 1, "host": "node7", "device": "cuda:0", "stage": "fit", "hook": "training_step", "epoch": 2, "batch": 3,
    "message": "out of \ufffd luck", "signal": null, "time": 12.5})"));
  EXPECT_EQ(failure_file(failure, "SIGBUS", 1).at("signal"), "SIGBUS");
}

}  // namespace
}  // namespace troupe
