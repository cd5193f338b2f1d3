// training_step_end, validation_step_end and test_step_end on one device.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

class StepEnds : public Line {
 public:
  StepOutput training_step_end(const std::vector<StepOutput>& batch_parts) override {
    EXPECT_EQ(batch_parts.size(), 1u);
    ++training;
    return batch_parts[0].loss() * 0;
  }
  StepOutput validation_step_end(const std::vector<StepOutput>& batch_parts) override {
    ++validation;
    return batch_parts[0];
  }
  StepOutput test_step_end(const std::vector<StepOutput>& batch_parts) override {
    ++test;
    return batch_parts[0];
  }
  int training = 0, validation = 0, test = 0;
};

TEST_F(Optimization, StepEndsGetWhatTheStepsReturned) {
  auto options = quiet(dir_);
  options.num_sanity_val_steps = 0;
  Trainer trainer(options);
  const auto model = std::make_shared<StepEnds>();
  const double before = model->weight();
  trainer.fit(model, points(), points());
  trainer.test(model, points());
  EXPECT_EQ(model->training, 8);
  EXPECT_EQ(model->validation, 8);
  EXPECT_EQ(model->test, 4);
  EXPECT_EQ(model->weight(), before);
}

}  // namespace
}  // namespace troupe
