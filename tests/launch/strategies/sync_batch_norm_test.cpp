// Synchronised batch norm, on devices of one process: the numbers of one device.
#include "tests/launch/strategies/strategies.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using ::testing::HasSubstr;

class Normed : public Net {
 public:
  explicit Normed(NetOptions options) : Net(options) {
    first_ = register_module("first", torch::nn::Linear(4, 6));
    norm_ = register_module("norm", torch::nn::BatchNorm1d(6));
    last_ = register_module("last", torch::nn::Linear(6, 2));
  }
  torch::Tensor forward(torch::Tensor x) override { return last_(torch::relu(norm_(first_(x)))) + net_->forward(x); }
  torch::Tensor running() const { return torch::cat({norm_->running_mean, norm_->running_var}); }

 private:
  torch::nn::Linear first_{nullptr}, last_{nullptr};
  torch::nn::BatchNorm1d norm_{nullptr};
};

TEST(SyncBatchNorm, IsThatOfTheGlobalBatch) {
  const auto fit = [](int64_t devices, bool synced, Strategy strategy) {
    const TempDir dir;
    auto options = options_with(dir, strategy, devices);
    options.sync_batchnorm = synced;
    // 50 samples: the last batches of the ranks are short.
    const auto model = Trainer(options).fit<Normed>({}, loader_of(48, 12 / devices));
    return std::pair(model->weights(), model->running());
  };
  const auto alone = fit(1, true, Strategy::ddp);
  for (const int64_t devices : {2, 3}) {
    for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
      const auto synced = fit(devices, true, strategy);
      EXPECT_LE(largest_difference(synced.first, alone.first), 1e-10) << devices << name_of(strategy);
      EXPECT_LE(largest_difference(synced.second, alone.second), 1e-10) << devices << name_of(strategy);
    }
    EXPECT_GT(largest_difference(fit(devices, false, Strategy::ddp).first, alone.first), 1e-4) << devices;
  }
}

class InstanceNormed : public Net {
 public:
  explicit InstanceNormed(NetOptions options) : Net(options) {
    norm_ = register_module("norm", torch::nn::InstanceNorm1d(torch::nn::InstanceNorm1dOptions(2).affine(true)));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(norm_(x.view({-1, 2, 2})).view({-1, 4})); }

 private:
  torch::nn::InstanceNorm1d norm_{nullptr};
};

TEST(SyncBatchNorm, LeavesInstanceNormAlone) {
  const auto fit = [](int64_t devices) {
    const TempDir dir;
    auto options = options_with(dir, Strategy::ddp, devices);
    options.sync_batchnorm = true;
    return Trainer(options).fit<InstanceNormed>({}, loader_of(48, 12 / devices))->weights();
  };
  EXPECT_LE(largest_difference(fit(2), fit(1)), 1e-10);
}

TEST(SyncBatchNorm, CannotWaitForRanksWithoutABatch) {
  const TempDir dir;
  auto options = options_with(dir, Strategy::ddp, 2);
  options.sync_batchnorm = true;
  options.uneven_data = UnevenData::join;
  EXPECT_THAT(error_of([&] { Trainer trainer(options); }), HasSubstr("a rank without a batch cannot take part in it"));
}

}  // namespace
}  // namespace troupe
