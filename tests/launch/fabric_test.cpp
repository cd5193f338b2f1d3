// The loop without a Trainer: its numbers are the Trainer's, on one device and on several of a process.
#include "tests/support/ddp.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"

#include "troupe/launch/fabric.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <mutex>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

FabricOptions like(const TrainerOptions& options) {
  FabricOptions fabric{.accelerator = options.accelerator, .devices = options.devices, .strategy = options.strategy};
  fabric.precision = options.precision;
  fabric.collective_timeout = options.collective_timeout;
  fabric.seed = options.seed;
  fabric.num_threads = options.num_threads;
  fabric.capture_step = CaptureStep::off;
  fabric.quiet = true;
  return fabric;
}

DataLoader shuffled(int64_t batch_size) {
  return {samples(48), {.batch_size = batch_size, .shuffle = true}};
}

// Has dropout, so that a random generator that stands elsewhere shows, and a buffer.
class Dropping : public Net {
 public:
  explicit Dropping(NetOptions options = {}) : Net(options) {
    net_->push_back(torch::nn::BatchNorm1d(2));
    net_->push_back(torch::nn::Dropout(0.25));
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.01}); }
};

torch::Tensor state_of(const torch::nn::Module& module) {
  std::vector<torch::Tensor> flat;
  for (const auto& parameter : module.parameters()) flat.push_back(parameter.detach().flatten().to(torch::kFloat64));
  for (const auto& buffer : module.buffers()) flat.push_back(buffer.flatten().to(torch::kFloat64));
  return torch::cat(flat);
}

template <class M>
torch::Tensor trained_by_trainer(TrainerOptions options, const DataLoader& loader) {
  options.enable_checkpointing = options.logger = false;
  return state_of(*Trainer(options).fit<M>({}, loader));
}

struct Loop {
  int64_t epochs = 3;
  int64_t window = 1;
  double clip = 0;
  bool captures = false;
  int64_t replays = 0;  // of the captured function, on rank zero
};

// Rank zero's weights after the loop that a user would write.
template <class M>
torch::Tensor trained_by_fabric(const FabricOptions& options, const DataLoader& data, Loop& loop) {
  torch::Tensor state;
  Fabric(options).launch([&](Fabric& fabric) {
    auto model = std::make_shared<M>();
    const auto optimizer = fabric.setup(model, model->configure_optimizers());
    auto loader = fabric.setup_dataloaders(data);
    const auto train = [&](const Batch& batch) -> StepOutput {
      const auto loss = [&] {
        const auto autocast = fabric.autocast();
        return model->error(batch);
      }();
      fabric.backward(loop.window == 1 ? loss : loss * (1.0 / static_cast<double>(loop.window)));
      return loss;
    };
    const auto step = [&] {
      if (loop.clip > 0) (void)fabric.clip_gradients(optimizer, loop.clip);
      optimizer.step();
    };
    const auto captured = fabric.capture([&](const Batch& batch) {
      optimizer.zero_grad();
      auto loss = train(batch);
      step();
      return loss;
    });
    for (int64_t epoch = 0; epoch < loop.epochs; ++epoch) {
      int64_t index = 0;
      for (const Batch& batch : loader) {
        if (loop.captures) {
          (void)captured(batch);
          continue;
        }
        const bool is_last = ++index % loop.window == 0;
        if (index % loop.window == 1 || loop.window == 1) optimizer.zero_grad();
        const auto accumulating = fabric.no_backward_sync(!is_last);
        (void)train(batch);
        if (is_last) step();
      }
    }
    if (!fabric.is_global_zero()) return;
    state = state_of(*model);
    loop.replays = captured.captured().replays("step");
    EXPECT_THAT(captured.captured().refusals, testing::IsEmpty());
  });
  return state;
}

template <class M>
torch::Tensor trained_by_fabric(const FabricOptions& options, const DataLoader& data, Loop&& loop = {}) {
  return trained_by_fabric<M>(options, data, loop);
}

TEST(Fabric, TrainsToTheBitsOfTheTrainer) {
  const TempDir dir;
  for (const int64_t devices : {1, 2}) {
    for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
      auto options = exact(dir, devices);
      options.strategy = strategy;
      const auto data = shuffled(8);
      EXPECT_TRUE(
          has_same_bits(trained_by_fabric<Dropping>(like(options), data), trained_by_trainer<Dropping>(options, data)))
          << devices << " " << name_of(strategy);
    }
  }
}

TEST(Fabric, TrainsInMixedPrecisionsToTheBitsOfTheTrainer) {
  const TempDir dir;
  for (const auto precision : {Precision::float32, Precision::bfloat16_mixed, Precision::float16_mixed}) {
    auto options = exact(dir, precision == Precision::float32 ? 1 : 2);
    options.precision = precision;
    const auto x = samples(48);
    std::vector<int64_t> all(48);
    std::iota(all.begin(), all.end(), 0);
    const auto whole = *x->get_batch(all);
    const DataLoader data(std::make_shared<TensorDataset>(whole[0].to(torch::kFloat32), whole[1].to(torch::kFloat32)),
                          {.batch_size = 8, .shuffle = true});
    EXPECT_TRUE(has_same_bits(trained_by_fabric<Net>(like(options), data), trained_by_trainer<Net>(options, data)))
        << name_of(precision);
  }
}

TEST(Fabric, AddsUpGradientsOfSeveralBatchesAsTheTrainerDoes) {
  const TempDir dir;
  for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
    auto options = exact(dir, 2);
    options.strategy = strategy;
    options.accumulate_grad_batches = 2;
    options.accumulate_grad_weighting = GradWeighting::batches;
    options.gradient_clip_val = 0.05;
    const auto data = shuffled(4);
    EXPECT_TRUE(has_same_bits(trained_by_fabric<Net>(like(options), data, {.window = 2, .clip = 0.05}),
                              trained_by_trainer<Net>(options, data)))
        << name_of(strategy);
  }
}

TEST(Fabric, ReplaysACapturedFunctionToTheBitsOfThePlainOne) {
  const TempDir dir;
  for (const int64_t devices : {1, 2}) {
    for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
      auto options = like(exact(dir, devices));
      options.strategy = strategy;
      const auto data = shuffled(8);
      const auto plain = trained_by_fabric<Dropping>(options, data, {.clip = 0.05});
      for (const auto capture : {CaptureStep::require, CaptureStep::check}) {
        options.capture_step = capture;
        Loop loop{.clip = 0.05, .captures = true};
        EXPECT_TRUE(has_same_bits(trained_by_fabric<Dropping>(options, data, loop), plain))
            << devices << " " << name_of(strategy) << " " << name_of(capture);
        EXPECT_GT(loop.replays, 2) << devices << " " << name_of(strategy) << " " << name_of(capture);
      }
    }
  }
}

// --- What cannot be captured ---

// Why a function of a small model's is not captured; "captured" if it is.
std::string reason_against(
    const std::function<StepOutput(Fabric& fabric, torch::nn::Linear& model, const FabricOptimizer& optimizer,
                                   const Batch& batch)>& function) {
  std::string reason = "captured";
  Fabric({.accelerator = Accelerator::cpu, .seed = 1, .quiet = true}).launch([&](Fabric& fabric) {
    torch::nn::Linear model(1, 1);
    const auto optimizer = fabric.setup(model, torch::optim::SGD(model->parameters(), 0.1));
    const auto step = fabric.capture([&](const Batch& batch) { return function(fabric, model, optimizer, batch); });
    for (int i = 0; i < 4; ++i) (void)step(Batch{torch::ones({2, 1})});
    const auto& refusals = step.captured().refusals;
    if (!refusals.empty()) reason = refusals.front();
  });
  return reason;
}

TEST(Fabric, ThrowsForAFunctionThatHasToBeCapturedAndCannotBe) {
  FabricOptions options{.accelerator = Accelerator::cpu, .seed = 1};
  options.capture_step = CaptureStep::require;
  Fabric(options).launch([](Fabric& fabric) {
    const auto step = fabric.capture(
        [](const Batch& batch) -> StepOutput { return batch[0] * batch[0].sum().item<double>(); }, "doubling");
    EXPECT_EQ(refusal([&] { (void)step(Batch{torch::ones({2})}); }),
              "doubling is not captured: it reads a number back to the host (item(), or a condition on a tensor) "
              "(fabric.capture_step = require)");
  });
}

TEST(Fabric, SaysInASentenceWhyAFunctionIsNotCaptured) {
  using Model = torch::nn::Linear;
  EXPECT_EQ(reason_against([](Fabric& fabric, Model& model, const FabricOptimizer& optimizer, const Batch& batch) {
              optimizer.zero_grad();
              const auto loss = model(batch[0]).mean();
              fabric.log("loss", loss);
              fabric.backward(loss);
              optimizer.step();
              return loss;
            }),
            "captured");
  EXPECT_EQ(reason_against([](Fabric&, Model& model, const FabricOptimizer&, const Batch& batch) {
              return model(batch[0]).mean();
            }),
            "captured");
  EXPECT_THAT(reason_against([](Fabric& fabric, Model& model, const FabricOptimizer&, const Batch& batch) {
                fabric.backward(model(batch[0]).mean());
                fabric.backward(model(batch[0]).mean());
                return StepOutput();
              }),
              HasSubstr("step is not captured: it calls backward twice"));
  EXPECT_THAT(reason_against([](Fabric& fabric, Model& model, const FabricOptimizer&, const Batch& batch) {
                const auto loss = model(batch[0]).mean();
                fabric.backward(loss);
                return loss * 2;
              }),
              HasSubstr("it computes behind backward (aten::mul"));
  EXPECT_THAT(reason_against([](Fabric&, Model& model, const FabricOptimizer&, const Batch& batch) {
                const auto loss = model(batch[0]).mean();
                loss.backward();
                return loss;
              }),
              HasSubstr("it calls backward of a tensor itself"));
  EXPECT_THAT(reason_against([](Fabric&, Model& model, const FabricOptimizer& optimizer, const Batch& batch) {
                optimizer.step();
                return model(batch[0]).mean();
              }),
              HasSubstr("it steps an optimizer before it calls backward"));
  EXPECT_THAT(reason_against([](Fabric& fabric, Model& model, const FabricOptimizer&, const Batch& batch) {
                const auto loss = model(batch[0]).mean();
                fabric.log("loss", loss.detach(), 3);
                return loss;
              }),
              HasSubstr("log(loss) is given a step by its number"));
  EXPECT_THAT(reason_against([](Fabric& fabric, Model& model, const FabricOptimizer&, const Batch& batch) {
                return fabric.all_reduce(model(batch[0]).mean());
              }),
              HasSubstr("it calls all_reduce, which a replay does not"));
}

// --- Several optimizers ---

// Weights of generator and critic after a few steps, of each rank.
std::map<int64_t, std::vector<torch::Tensor>> after_a_game(const FabricOptions& options) {
  std::mutex mutex;
  std::map<int64_t, std::vector<torch::Tensor>> weights;
  Fabric(options).launch([&](Fabric& fabric) {
    torch::nn::Linear generator(2, 2), critic(2, 1);
    const auto make = fabric.setup(generator, optim::sgd(generator->parameters(), {.lr = 0.1}), "generator");
    const auto judge = fabric.setup(critic, optim::sgd(critic->parameters(), {.lr = 0.1}), "critic");
    const auto criticize = fabric.capture([&](const Batch& noise) {
      judge.zero_grad();
      const auto loss = critic(generator(noise[0]).detach()).mean();
      fabric.backward(loss, {judge});
      judge.step();
      return loss;
    });
    const auto generate = fabric.capture([&](const Batch& noise) {
      make.zero_grad();
      const auto loss = -critic(generator(noise[0])).mean();
      fabric.backward(loss, {make});
      make.step();
      return loss;
    });
    for (int step = 0; step < 6; ++step) {
      const Batch noise{torch::randn({4, 2})};  // another one on each rank
      (void)criticize(noise);
      (void)generate(noise);
    }
    const bool captures = options.capture_step != CaptureStep::off;
    EXPECT_EQ(generate.captured().replays("step") > 0, captures);
    EXPECT_EQ(criticize.captured().replays("step") > 0, captures);
    const std::lock_guard lock(mutex);
    weights[fabric.global_rank()] = {generator->weight.detach().clone(), critic->weight.detach().clone()};
  });
  return weights;
}

TEST(Fabric, AveragesTheGradientsOfTheOptimizersThatALossIsFor) {
  const TempDir dir;
  for (const int64_t devices : {1, 2}) {
    auto options = like(exact(dir, devices));
    const auto plain = after_a_game(options);
    options.capture_step = CaptureStep::require;
    const auto captured = after_a_game(options);
    ASSERT_EQ(static_cast<int64_t>(plain.size()), devices);
    for (const auto& [rank, weights] : plain) {
      for (std::size_t i = 0; i < weights.size(); ++i) {
        EXPECT_TRUE(has_same_bits(weights[i], plain.at(0)[i])) << devices << " " << rank << " " << i;
        EXPECT_TRUE(has_same_bits(weights[i], captured.at(rank)[i])) << devices << " " << rank << " " << i;
      }
    }
  }
}

TEST(Fabric, StepsSeveralOptimizersOfOneModuleTogether) {
  const auto trained = [](bool together) {
    torch::Tensor weights;
    Fabric({.accelerator = Accelerator::cpu, .seed = 1}).launch([&](Fabric& fabric) {
      torch::nn::Sequential model(torch::nn::Linear(2, 3), torch::nn::Linear(3, 1));
      const auto sgd = [](const torch::nn::Module& part) { return optim::sgd(part.parameters(), {.lr = 0.1}); };
      const auto steps = [&](const auto&... optimizers) {
        for (int i = 0; i < 3; ++i) {
          (optimizers.zero_grad(), ...);
          fabric.backward(model->forward(torch::ones({4, 2})).pow(2).mean());
          (optimizers.step(), ...);
        }
      };
      if (together) {
        steps(fabric.setup(model, sgd(*model)));
      } else {
        const auto [body, head] = fabric.setup_all(model, sgd(*model->ptr(0)), sgd(*model->ptr(1)));
        EXPECT_EQ(body.index(), 0u);
        EXPECT_EQ(head.index(), 1u);
        steps(body, head);
      }
      weights = state_of(*model);
    });
    return weights;
  };
  EXPECT_TRUE(has_same_bits(trained(true), trained(false)));
}

// --- Files ---

TEST(Fabric, GoesOnFromAFileToTheBitsOfALoopThatDidNotEnd) {
  const TempDir dir;
  for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
    auto options = like(exact(dir, 2));
    options.strategy = strategy;
    const auto path = dir / ("half_" + std::string(name_of(strategy)) + ".safetensors");
    std::array<torch::Tensor, 2> states;
    for (const bool goes_on : {false, true}) {
      Fabric(options).launch([&](Fabric& fabric) {
        auto model = std::make_shared<Dropping>();
        const auto optimizer = fabric.setup(model, model->configure_optimizers());
        auto loader = fabric.setup_dataloaders(shuffled(8));
        int64_t epoch = 0;
        if (goes_on) {
          const auto saved = fabric.load(path);
          epoch = saved.at("epoch");
          loader.set_epoch(epoch);
        }
        for (; epoch < 3; ++epoch) {
          for (const Batch& batch : loader) {
            optimizer.zero_grad();
            fabric.backward(model->error(batch));
            optimizer.step();
          }
          if (epoch == 0 && !goes_on) fabric.save(path, {{"epoch", 1}});
        }
        if (fabric.is_global_zero()) states[goes_on ? 1 : 0] = state_of(*model);
      });
    }
    EXPECT_TRUE(has_same_bits(states[0], states[1])) << name_of(strategy);
    const auto file = read_weights(path);
    ASSERT_TRUE(file.find("model.net.0.weight"));
    EXPECT_EQ(file.find("model.net.0.weight")->sizes(), (std::vector<int64_t>{7, 4}));
  }
}

TEST(Fabric, NamesWhatDoesNotFitInAFile) {
  const TempDir dir;
  const auto path = dir / "other.safetensors";
  Fabric({.accelerator = Accelerator::cpu, .seed = 1}).launch([&](Fabric& fabric) {
    torch::nn::Linear model(2, 1);
    (void)fabric.setup(model, torch::optim::SGD(model->parameters(), 0.1));
    fabric.save(path);
  });
  Fabric({.accelerator = Accelerator::cpu, .seed = 1}).launch([&](Fabric& fabric) {
    EXPECT_THAT(refusal([&] { fabric.load(path); }), HasSubstr("no module was set up"));
    torch::nn::Conv1d model(torch::nn::Conv1dOptions(1, 1, 1));
    (void)fabric.setup(model, torch::optim::SGD(model->parameters(), 0.1));
    EXPECT_THAT(refusal([&] { fabric.load(path); }), HasSubstr("the checkpoint belongs to another model"));
    EXPECT_THAT(refusal([&] { fabric.load(dir / "none.safetensors"); }), HasSubstr("none.safetensors"));
  });
  Fabric({.accelerator = Accelerator::cpu, .seed = 1}).launch([&](Fabric& fabric) {
    torch::nn::Linear model(2, 1);
    fabric.setup_module(model, "critic");
    EXPECT_THAT(refusal([&] { fabric.load(path); }), HasSubstr("has the state of 1 optimizers, and 0 were set up"));
    (void)fabric.setup_optimizers(torch::optim::SGD(model->parameters(), 0.1));
    EXPECT_THAT(refusal([&] { fabric.load(path); }),
                HasSubstr("its tensor model.weight belongs to none of the modules critic"));
  });
}

// --- Data ---

TEST(Fabric, GivesEachRankItsBatchesInOrderHoweverManyThreadsMakeThem) {
  const auto numbers_of = [](int64_t devices, int64_t workers, Division division) {
    std::map<int64_t, std::vector<double>> seen;
    std::mutex mutex;
    Fabric({.accelerator = Accelerator::cpu, .devices = devices, .seed = 1}).launch([&](Fabric& fabric) {
      const auto values = torch::arange(7, torch::kFloat32);
      auto loader = fabric.setup_dataloaders(
          DataLoader(std::make_shared<TensorDataset>(values), {.batch_size = 1, .num_workers = workers, .prefetch = 2}),
          division);
      std::vector<double> mine;
      for (const Batch& batch : loader) mine.push_back(batch[0].item<double>());
      EXPECT_EQ(static_cast<int64_t>(mine.size()), *loader.size());
      EXPECT_EQ(loader.epoch(), 0);
      const std::lock_guard lock(mutex);
      seen[fabric.global_rank()] = mine;
    });
    return seen;
  };
  for (const int64_t workers : {0, 3}) {
    EXPECT_THAT(numbers_of(1, workers, Division::padded_samples)[0], ElementsAre(0, 1, 2, 3, 4, 5, 6));
    auto padded = numbers_of(2, workers, Division::padded_samples);
    EXPECT_THAT(padded[0], ElementsAre(0, 2, 4, 6));
    EXPECT_THAT(padded[1], ElementsAre(1, 3, 5, 0));
    auto divided = numbers_of(2, workers, Division::batches);
    EXPECT_THAT(divided[0], ElementsAre(0, 2, 4, 6));
    EXPECT_THAT(divided[1], ElementsAre(1, 3, 5));
  }
}

TEST(Fabric, BeginsAnEpochAtAnyBatchAndLeavesOneAtAnyTime) {
  Fabric({.accelerator = Accelerator::cpu, .seed = 1}).launch([](Fabric& fabric) {
    auto loader = fabric.setup_dataloaders(
        DataLoader(std::make_shared<TensorDataset>(torch::arange(5)), {.batch_size = 1, .shuffle = true}));
    const auto rest = [&] {
      std::vector<int64_t> numbers;
      for (const Batch& batch : loader) numbers.push_back(batch[0].item<int64_t>());
      return numbers;
    };
    for (const Batch& batch : loader) {
      if (batch.size() == 1) break;
    }
    const auto second = rest();
    EXPECT_EQ(loader.epoch(), 1);
    loader.set_epoch(1, 3);
    EXPECT_THAT(rest(), ElementsAre(second[3], second[4]));
    EXPECT_THAT(refusal([&] { loader.set_epoch(-1); }), HasSubstr("set_epoch(-1, 0)"));
  });
}

class BadSample : public Dataset {
 public:
  int64_t size() const override { return 3; }
  Batch get(int64_t index) override {
    if (index == 1) throw std::runtime_error("no such picture");
    return {torch::tensor(index)};
  }
};

TEST(Fabric, ThrowsWhatADatasetThrewWithTheSample) {
  std::vector<int64_t> seen;
  try {
    Fabric({.accelerator = Accelerator::cpu, .seed = 1}).launch([&](Fabric& fabric) {
      for (const Batch& batch : fabric.setup_dataloaders(DataLoader(std::make_shared<BadSample>()))) {
        seen.push_back(batch[0].item<int64_t>());
      }
    });
    ADD_FAILURE() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("sample 1: no such picture"));
  }
  EXPECT_THAT(seen, ElementsAre(0));
}

// --- Ranks ---

TEST(Fabric, ReducesGathersAndBroadcasts) {
  Fabric({.accelerator = Accelerator::cpu, .devices = 2, .seed = 1}).launch([](Fabric& fabric) {
    const auto mine = torch::tensor({1.0, 4.0}) * static_cast<double>(fabric.global_rank() + 1);
    EXPECT_TRUE(torch::equal(fabric.all_reduce(mine), torch::tensor({1.5, 6.0})));
    EXPECT_TRUE(torch::equal(fabric.all_reduce(mine, Reduce::sum), torch::tensor({3.0, 12.0})));
    EXPECT_TRUE(torch::equal(fabric.all_reduce(mine, Reduce::min), torch::tensor({1.0, 4.0})));
    EXPECT_TRUE(torch::equal(fabric.all_reduce(mine, Reduce::max), torch::tensor({2.0, 8.0})));
    EXPECT_TRUE(torch::equal(fabric.all_gather(mine), torch::tensor({{1.0, 4.0}, {2.0, 8.0}})));
    EXPECT_TRUE(torch::equal(fabric.broadcast(mine, 1), torch::tensor({2.0, 8.0})));
    EXPECT_EQ(fabric.broadcast("rank " + std::to_string(fabric.global_rank())), "rank 0");
    fabric.barrier();
    const auto uneven = torch::zeros({fabric.global_rank() + 2});
    EXPECT_EQ(refusal([&] { (void)fabric.all_reduce(uneven); }),
              "all_reduce: rank 1 gave Float [3] and rank 0 Float [2]; all ranks have to give tensors of one type and "
              "shape");
    EXPECT_THAT(refusal([&] { (void)fabric.broadcast(mine, 2); }), HasSubstr("there is no rank 2; ranks are 0 to 1"));
  });
}

TEST(Fabric, EndsOnAllDevicesWithWhatOneThrew) {
  try {
    Fabric({.accelerator = Accelerator::cpu, .devices = 2, .seed = 1}).launch([](Fabric& fabric) {
      if (fabric.global_rank() == 1) throw std::out_of_range("beyond the end");
      for (;;) fabric.barrier();
    });
    ADD_FAILURE() << "no exception";
  } catch (const std::out_of_range& error) {
    EXPECT_STREQ(error.what(), "beyond the end");
  }
}

// --- What it says ---

TEST(Fabric, LogsForModulesAndLoops) {
  const TempDir dir;
  FabricOptions options{.accelerator = Accelerator::cpu, .seed = 1, .default_root_dir = dir.path(), .loggers = {"csv"}};
  std::filesystem::path run_dir;
  Fabric(options).launch([&](Fabric& fabric) {
    auto model = std::make_shared<Line>();
    const auto optimizer = fabric.setup(model, model->configure_optimizers());
    run_dir = fabric.run_dir();
    for (const Batch& batch : fabric.setup_dataloaders(points())) {
      optimizer.zero_grad();
      fabric.backward(model->training_step(batch, 0).loss());
      optimizer.step();
    }
    fabric.log("rate", 0.5, 7);
    EXPECT_EQ(fabric.logged().at("rate"), 0.5);
    EXPECT_EQ(model->global_step(), 4);
  });
  EXPECT_EQ(run_dir, dir.path() / "fabric" / "version_0");
  const auto table = content_of(run_dir / "metrics.csv");
  EXPECT_THAT(table, HasSubstr("epoch,step,train_loss,rate\n"));
  EXPECT_THAT(table, HasSubstr(",7,,0.5\n"));
}

// --- Bad input ---

TEST(Fabric, RefusesInASentenceWhatCannotBe) {
  EXPECT_THAT(refusal([] { Fabric({.devices = 0}); }), HasSubstr("fabric.devices = 0 is not valid; use at least 1"));
  EXPECT_THAT(refusal([] { Fabric({.strategy = Strategy::fsdp}); }),
              HasSubstr("fabric.strategy = fsdp is not valid; use zero"));
  EXPECT_THAT(refusal([] { Fabric({.strategy = Strategy::dp}); }),
              HasSubstr("fabric.strategy = dp is not valid; use ddp"));
  EXPECT_THAT(refusal([] { Fabric({.loggers = {"cvs"}}); }), HasSubstr("csv"));
  Fabric fabric({.accelerator = Accelerator::cpu, .seed = 1});
  EXPECT_THAT(refusal([&] { fabric.barrier(); }), HasSubstr("barrier belongs into the function that launch runs"));
  fabric.launch([](Fabric& fabric) {
    torch::nn::Linear model(2, 1), other(2, 1);
    const auto x = torch::ones({1, 2});
    EXPECT_THAT(refusal([&] { fabric.backward(model(x).sum()); }), HasSubstr("backward: no optimizer was set up"));
    EXPECT_THAT(refusal([&] { fabric.setup_module(std::shared_ptr<torch::nn::LinearImpl>()); }),
                HasSubstr("null module"));
    const auto optimizer = fabric.setup(model, optim::sgd(model->parameters(), {.lr = 0.1}));
    EXPECT_THAT(refusal([&] { fabric.setup_module(model); }), HasSubstr("before; a module is set up once"));
    EXPECT_THAT(refusal([&] { fabric.setup_module(other); }), HasSubstr("of several modules each needs a name"));
    EXPECT_THAT(refusal([&] { (void)fabric.setup_optimizers(optimizer.ptr()); }),
                HasSubstr("an optimizer is set up once"));
    EXPECT_THAT(refusal([&] { (void)fabric.setup_optimizers(optim::sgd(other->parameters(), {.lr = 0.1})); }),
                HasSubstr("optimizer 1: parameter 0 of group 0, of shape [1, 2], is not one of the module's"));
    EXPECT_THAT(refusal([&] { (void)fabric.setup_optimizers({}); }), HasSubstr("was given 0 optimizers"));
    EXPECT_THAT(refusal([&] { fabric.backward(model(x)); }), "accepted");
    EXPECT_THAT(refusal([&] {
                  fabric.backward(model(torch::ones({3, 2})));
                }),
                HasSubstr("the loss is of shape [3, 1]"));
    EXPECT_THAT(refusal([&] { fabric.backward(x.sum()); }), HasSubstr("depends on no parameter"));
    EXPECT_THAT(refusal([&] { (void)fabric.clip_gradients(optimizer, -1); }), HasSubstr("= -1.0 is not valid"));
    EXPECT_THAT(refusal([&] { fabric.log("x", torch::ones({2})); }), HasSubstr("of shape [2]; give it one number"));
    EXPECT_THAT(refusal([&] { fabric.launch([](Fabric&) {}); }), HasSubstr("launch was called within"));
    EXPECT_THAT(refusal([&] { (void)fabric.capture(nullptr); }), HasSubstr("capture was given no function"));
  });
}

TEST(Fabric, RefusesAnOptimizerThatRanksCannotDivide) {
  FabricOptions options{.accelerator = Accelerator::cpu, .devices = 2, .strategy = Strategy::zero, .seed = 1};
  Fabric(options).launch([](Fabric& fabric) {
    torch::nn::Linear model(2, 1);
    fabric.setup_module(model);
    EXPECT_THAT(refusal([&] { (void)fabric.setup_optimizers(torch::optim::LBFGS(model->parameters(), 1)); }),
                HasSubstr("LBFGS"));
    const auto optimizer = fabric.setup_optimizers(optim::sgd(model->parameters(), {.lr = 0.1}));
    EXPECT_EQ(optimizer.index(), 0u);
  });
}

TEST(Fabric, RefusesAStepWithGradientsThatWereNotAveraged) {
  Fabric({.accelerator = Accelerator::cpu, .devices = 2, .seed = 1}).launch([](Fabric& fabric) {
    torch::nn::Linear model(2, 1);
    const auto optimizer = fabric.setup(model, optim::sgd(model->parameters(), {.lr = 0.1}));
    {
      const auto accumulating = fabric.no_backward_sync();
      fabric.backward(model(torch::ones({1, 2})).sum());
    }
    EXPECT_THAT(refusal([&] { optimizer.step(); }), HasSubstr("are this rank's own (no_backward_sync)"));
    optimizer.zero_grad();
    EXPECT_EQ(refusal([&] { optimizer.step(); }), "accepted") << "there is nothing to step with";
    fabric.backward(model(torch::ones({1, 2})).sum());
    EXPECT_EQ(refusal([&] { optimizer.step(); }), "accepted");
  });
}

}  // namespace
}  // namespace troupe
