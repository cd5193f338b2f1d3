// The examples as programs, on their real data, cut short.
#include "tests/program.hpp"
#include "tests/runtime/temp_dir.hpp"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <string_view>

namespace troupe {
namespace {

// What `program arguments` prints on stdout.
std::string output_of(const char* program, std::string_view arguments, const TempDir& dir) {
  std::ostringstream command;
  command << example(program) << ' ' << arguments << " --trainer.num_threads 1 --trainer.enable_progress_bar=false"
          << " --trainer.default_root_dir " << dir.path() << " 2>/dev/null";
  const auto run = run_program(command.str());
  EXPECT_EQ(run.status, 0) << program << " " << arguments;
  return run.output;
}

// The number behind `name ` in "name number" lines.
double metric(const std::string& output, const std::string& name) {
  std::istringstream lines(output);
  std::string key;
  double value = 0;
  while (lines >> key >> value) {
    if (key == name) return value;
  }
  ADD_FAILURE() << "no " << name << " in:\n" << output;
  return 0;
}

TEST(Examples, TheAutoencoderLearnsToReconstruct) {
  const TempDir dir;
  output_of("autoencoder", "fit --trainer.max_epochs 3 --trainer.seed 1", dir);
  const double loss = metric(output_of("autoencoder", "test --ckpt_path best", dir), "test_loss");
  EXPECT_GT(loss, 0);
  EXPECT_LT(loss, 0.05);  // 0.23 before training
}

TEST(Examples, TheGanComesNearerToTheImagesEitherWay) {
  for (const char* mode : {"false", "true"}) {
    const TempDir dir;
    std::ostringstream fit, validate;
    fit << "fit --trainer.max_epochs 2 --trainer.seed 1 --model.manual=" << mode;
    validate << "validate --ckpt_path last --model.manual=" << mode;
    output_of("gan", fit.str(), dir);
    const double gap = metric(output_of("gan", validate.str(), dir), "val_mean_gap");
    EXPECT_GT(gap, 0) << mode;
    EXPECT_LT(gap, 0.12) << mode;  // 0.2 before training
  }
}

}  // namespace
}  // namespace troupe
