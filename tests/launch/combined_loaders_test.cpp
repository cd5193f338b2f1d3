// Several training loaders in whole runs.
#include "tests/support/lines.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

DataLoader count_to(int64_t n, int64_t batch_size, bool shuffle = false) {
  return {std::make_shared<TensorDataset>(torch::arange(n, torch::kFloat32).unsqueeze(1)),
          {.batch_size = batch_size, .shuffle = shuffle}};
}

// Writes down what it is given: the first numbers of each part, or of the batch.
class Reader : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override {
    std::vector<int64_t> row;
    if (batch.parts().empty()) row.push_back(batch[0][0].item<int64_t>());
    for (const auto& part : batch.parts()) row.push_back(part[0][0].item<int64_t>());
    rows.push_back(row);
    return forward(batch.parts().empty() ? batch[0] : batch.part(0)[0]).mean() * 1e-3;
  }
  std::vector<std::vector<int64_t>> rows;
};

class CombinedLoaders : public ::testing::Test {
 protected:
  std::shared_ptr<Reader> fit(CombineMode mode, DataLoaders loaders, int64_t epochs = 1, RunArguments arguments = {}) {
    auto options = quiet(dir_);
    options.multiple_trainloader_mode = mode;
    options.max_epochs = epochs;
    options.callbacks = {std::make_shared<ModelCheckpoint>(
        ModelCheckpointOptions{.filename = "{step}", .save_top_k = -1, .every_n_train_steps = 1})};
    trainer_ = std::make_unique<Trainer>(options);
    return trainer_->fit(std::make_shared<Reader>(), std::move(loaders), {}, std::move(arguments));
  }
  TempDir dir_;
  std::unique_ptr<Trainer> trainer_;
};

using Row = std::vector<int64_t>;

TEST_F(CombinedLoaders, ShortOnesBeginAnew) {
  const auto model = fit(CombineMode::max_size_cycle, {count_to(5, 1), count_to(4, 2)});
  EXPECT_THAT(model->rows, ElementsAre(Row{0, 0}, Row{1, 2}, Row{2, 0}, Row{3, 2}, Row{4, 0}));
}

TEST_F(CombinedLoaders, TheShortestEndsTheEpoch) {
  const auto model = fit(CombineMode::min_size, {count_to(5, 1), count_to(4, 2)}, 2);
  EXPECT_THAT(model->rows, ElementsAre(Row{0, 0}, Row{1, 2}, Row{0, 0}, Row{1, 2}));
}

TEST_F(CombinedLoaders, OneAfterTheOther) {
  const auto model = fit(CombineMode::sequential, {count_to(2, 1), count_to(4, 2), count_to(1, 1)}, 2);
  EXPECT_THAT(model->rows, ElementsAre(Row{0}, Row{1}, Row{0}, Row{2}, Row{0}, Row{0}, Row{1}, Row{0}, Row{2}, Row{0}));
}

TEST_F(CombinedLoaders, PartsHaveNames) {
  class Named : public Line {
   public:
    StepOutput training_step(const Batch& batch, int64_t) override {
      EXPECT_EQ(batch.part("labelled").size(), 2);
      EXPECT_EQ(batch.part("unlabelled").size(), 3);
      EXPECT_THROW(batch.part("other"), std::out_of_range);
      return forward(batch.part("labelled")[0]).mean();
    }
  };
  Trainer trainer(quiet(dir_));
  trainer.fit(std::make_shared<Named>(), {{"labelled", count_to(6, 2)}, {"unlabelled", count_to(9, 3)}});
}

TEST_F(CombinedLoaders, AResumedRunGoesOnAtThePositionOfEach) {
  const auto loaders = [] { return DataLoaders{count_to(7, 1, true), count_to(3, 1, true), count_to(2, 1, true)}; };
  const auto whole = fit(CombineMode::max_size_cycle, loaders(), 3);
  const auto folder = trainer_->run_dir() / "checkpoints";
  ASSERT_EQ(whole->rows.size(), 21u);
  for (const int64_t step : {1, 6, 10, 14, 20}) {
    const auto resumed = fit(CombineMode::max_size_cycle, loaders(), 3,
                             {.ckpt_path = (folder / ("step=" + std::to_string(step) + ".safetensors")).string()});
    EXPECT_EQ(resumed->rows, std::vector<Row>(whole->rows.begin() + step, whole->rows.end())) << step;
    EXPECT_EQ(resumed->weight(), whole->weight()) << step;
  }
}

TEST_F(CombinedLoaders, ACycleHasAnOrderOfItsOwn) {
  const auto model = fit(CombineMode::max_size_cycle, {count_to(40, 1), count_to(20, 1, true)});
  std::vector<int64_t> first, second;
  for (std::size_t i = 0; i < 20; ++i) {
    first.push_back(model->rows[i][1]);
    second.push_back(model->rows[i + 20][1]);
  }
  EXPECT_NE(first, second);
  EXPECT_THAT(second, ::testing::UnorderedElementsAreArray(first));
}

}  // namespace
}  // namespace troupe
