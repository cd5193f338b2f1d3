// Computations that are recorded twice and replayed, held against computing them: equal to the bit.
#include "troupe/runtime/capture/program.hpp"
#include "tests/support/same_bits.hpp"

#include "troupe/runtime/capture/agreement.hpp"

#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace troupe::capture {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

using Tensors = std::vector<torch::Tensor>;
using Mark = std::function<void()>;  ///< ends a stretch

/// A call, where it is recorded and where it is not.
Tensors called(const char* name, const Tensors& inputs, const StepRecorder::Again& again, bool is_inner = false) {
  StepRecorder* recorder = StepRecorder::current();
  return recorder ? recorder->call(name, inputs, again, is_inner) : again(inputs);
}

/// A computation and its program.
class Replayed {
 public:
  using Compute = std::function<Tensors(const Mark& mark)>;

  /// `inputs` get other numbers, in place, before each time.
  Replayed(Tensors inputs, Compute compute, const Tensors& places = {})
      : inputs_(std::move(inputs)), compute_(std::move(compute)) {
    ProgramRequest request;
    auto first = record(request);
    auto second = record(request);
    EXPECT_EQ(first.refusal + second.refusal, "");
    EXPECT_EQ(difference(first, second), "");
    mark_kept(first, second);
    first = {};
    request.way_out = "the_option = off";
    for (std::size_t i = 0; i < places.size(); ++i) request.places[request.results[i].memory] = places[i];
    program_ = std::make_unique<Program>(second, request);
  }
  Replayed(const Replayed&) = delete;
  Replayed& operator=(const Replayed&) = delete;

  Program& program() { return *program_; }
  const CapturedProgram& summary() const { return program_->summary(); }
  const Tensors& results() const { return program_->results(); }

  void replay() {
    for (std::size_t i = 0; i < program_->stretches(); ++i) program_->run(i);
  }
  /// Of the same numbers and draws; what is written into inputs counts, too.
  void expect_same(int replays = 3) {
    for (int i = 0; i < replays; ++i) {
      new_numbers();
      const auto before = copies(inputs_);
      const auto state = generator_.get_state();
      const auto plain = copies(compute_([] {}));
      const auto plain_inputs = copies(inputs_);
      const auto state_after = generator_.get_state();
      put_back(before);
      generator_.set_state(state);
      replay();
      ASSERT_EQ(results().size(), plain.size());
      for (std::size_t k = 0; k < plain.size(); ++k) {
        EXPECT_TRUE(has_same_bits(results()[k], plain[k])) << "replay " << i << ", result " << k << "\n"
                                                           << results()[k] << "\n"
                                                           << plain[k];
      }
      for (std::size_t k = 0; k < inputs_.size(); ++k) {
        EXPECT_TRUE(has_same_bits(inputs_[k], plain_inputs[k])) << "replay " << i << ", input " << k;
      }
      EXPECT_TRUE(generator_.get_state().equal(state_after)) << "replay " << i;
    }
  }

 private:
  Recording record(ProgramRequest& request) {
    new_numbers();
    Recorder recorder;
    for (std::size_t i = 0; i < inputs_.size(); ++i) recorder.give("input " + std::to_string(i), inputs_[i]);
    Tensors results;
    {
      const Recorded recorded(&recorder);
      results = compute_([&] { recorder.mark(); });
    }
    request.results.clear();
    for (const auto& result : results) request.results.push_back(recorder.view_of(result).value());
    return recorder.take();
  }
  void new_numbers() {
    for (const auto& input : inputs_) {
      if (input.is_floating_point()) input.detach().copy_(torch::randn(input.sizes(), numbers_));
    }
  }
  static Tensors copies(const Tensors& tensors) {
    Tensors copies;
    for (const auto& tensor : tensors) copies.push_back(tensor.detach().clone());
    return copies;
  }
  void put_back(const Tensors& before) {
    for (std::size_t i = 0; i < before.size(); ++i) inputs_[i].detach().copy_(before[i]);
  }

  Tensors inputs_;
  Compute compute_;
  std::unique_ptr<Program> program_;
  at::Generator generator_ = at::globalContext().defaultGenerator(torch::kCPU);
  at::Generator numbers_ = at::detail::createCPUGenerator(11);
};

torch::Tensor matrix() {
  return torch::zeros({4, 6});
}

TEST(Program, ComputesElementByElement) {
  const auto x = matrix(), y = matrix();
  Replayed replayed({x, y}, [&](const Mark&) -> Tensors {
    const auto z = ((x * 2 + y).tanh() - y / 3).sigmoid().pow(2);
    return {z, z.sum(), torch::where(z > 0.5, x, y).clamp(-1, 1)};
  });
  replayed.expect_same();
}

TEST(Program, LooksAtMemoryAsTheComputationDoes) {
  const auto x = matrix(), y = matrix();
  Replayed replayed({x, y}, [&](const Mark&) -> Tensors {
    const auto turned = (x * y).t();
    const auto some = turned.slice(0, 1, 6, 2).slice(1, 1, 3) + 1;
    const auto wide = x.slice(1, 0, 1).expand({4, 3}) * y.slice(1, 2, 5);
    return {turned,
            some,
            wide,
            turned.reshape({2, 12}).sum(0),
            turned.diagonal() * 2,
            some.unsqueeze(0).permute({2, 0, 1})};
  });
  replayed.expect_same();
}

TEST(Program, ChangesMemoryInPlace) {
  const auto x = matrix(), y = matrix();
  Replayed replayed({x, y}, [&](const Mark&) -> Tensors {
    auto sum = torch::zeros({4, 8});
    sum.slice(1, 1, 7).add_(x).mul_(y);
    const auto before = sum * 1;
    sum[2].fill_(0.5);
    sum.index_add_(1, torch::tensor({1, 1, 3}), y.slice(1, 0, 3));
    y.relu_();
    x.t()[1].copy_(sum.select(1, 3));
    return {sum, before, x + y};
  });
  replayed.expect_same();
}

TEST(Program, DrawsTheSameNumbers) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto dropped = torch::dropout(x, 0.4, true);
    const auto noise = torch::rand({4, 6}) + torch::randn_like(x) + torch::empty({6}).uniform_(1, 2);
    (void)torch::rand({17});  // nobody needs it but the generator
    return {dropped + noise, x.index({torch::randperm(4)}), torch::bernoulli(torch::sigmoid(x)),
            torch::randint(9, {3})};
  });
  replayed.expect_same(5);
}

TEST(Program, ComputesGradients) {
  const auto x = matrix();
  const auto weight = torch::zeros({6, 3}).requires_grad_(), bias = torch::zeros({3}).requires_grad_();
  Replayed replayed({x, weight, bias}, [&](const Mark& mark) -> Tensors {
    const auto loss = torch::log_softmax(torch::gelu(torch::addmm(bias, x, weight)), 1).pow(2).mean();
    mark();
    const auto gradients = torch::autograd::grad({loss}, {weight, bias});
    return {loss, gradients[0], gradients[1]};
  });
  replayed.expect_same();
}

// Some operators allocate their results, and are given memory that is laid out; some take it for something else first.
TEST(Program, GivesOperatorsThatAllocateTheirMemory) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    auto y = x;
    for (int i = 0; i < 4; ++i) y = torch::hardswish(y.roll(1, 0) + 1).cumsum(1).flip(0) * 0.5;
    return {y.flip(1), y, y.roll(2, 1), y.clone(), std::get<0>(y.sort(1)), torch::ones_like(y)};
  });
  EXPECT_THAT(replayed.program().to_text(), HasSubstr("# allocates"));
  replayed.expect_same(50);
}

TEST(Program, AllocatesNothingForResultsOfOperatorsThatAllocate) {
  const auto image = torch::zeros({2, 3, 16, 16}), weight = torch::zeros({4, 3, 3, 3}).requires_grad_();
  Replayed replayed({image, weight}, [&](const Mark&) -> Tensors {
    const auto out = torch::conv2d(image, weight).roll(1, 0);
    return {out, torch::autograd::grad({out.sum()}, {weight})[0]};
  });
  replayed.expect_same(8);
  const void* before = replayed.results()[0].data_ptr();
  replayed.expect_same(2);
  EXPECT_EQ(replayed.results()[0].data_ptr(), before);
}

// An operator that keeps what it returns, if it is told to; none of LibTorch's does.
struct Kept {
  bool is_on = false;
  torch::Tensor tensor;
};

Kept& kept() {
  static Kept kept;
  return kept;
}

torch::Tensor negative_of(const torch::Tensor& x) {
  auto out = at::detail::empty_cpu(x.sizes(), x.options());
  const auto* from = x.const_data_ptr<float>();
  std::transform(from, from + x.numel(), out.mutable_data_ptr<float>(), std::negate<>());
  if (kept().is_on) kept().tensor = out;
  return out;
}

TORCH_LIBRARY(troupe_program_test, library) {
  library.def("negative_of(Tensor x) -> Tensor");
}
TORCH_LIBRARY_IMPL(troupe_program_test, CPU, library) {
  library.impl("negative_of", &negative_of);
}

TEST(Program, SaysWhatTurnsReplaysOffIfAnOperatorKeepsItsMemory) {
  const auto x = matrix();
  const auto op = c10::Dispatcher::singleton()
                      .findSchemaOrThrow("troupe_program_test::negative_of", "")
                      .typed<torch::Tensor(const torch::Tensor&)>();
  Replayed replayed({x}, [&](const Mark&) -> Tensors { return {op.call(x) * 2}; });
  replayed.expect_same();
  kept().is_on = true;
  std::string said;
  try {
    replayed.replay();
  } catch (const std::runtime_error& error) {
    said = error.what();
  }
  kept() = {};
  EXPECT_EQ(said, "troupe_program_test::negative_of keeps memory that the next replay writes to: set the_option = off");
}

TEST(Program, PutsResultsWhereTheyAreWanted) {
  const auto x = matrix();
  const auto sum = torch::zeros({6}), copy = torch::zeros({4, 6});
  const void* place = sum.data_ptr();
  Replayed replayed({x}, [&](const Mark&) -> Tensors { return {x.sum(0), x.clone(), x * 2}; }, {sum, copy});
  replayed.expect_same();
  EXPECT_EQ(replayed.results()[0].data_ptr(), place);
  EXPECT_TRUE(sum.equal(x.sum(0)));
  EXPECT_TRUE(copy.equal(x));
}

TEST(Program, ComputesConstantsOnce) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto places = torch::arange(6) * 2 + 1;
    return {x * places, places, torch::full({3}, 2.5).sin()};
  });
  EXPECT_EQ(replayed.summary().constants, 5u);
  EXPECT_EQ(replayed.summary().operators, 1u);
  EXPECT_THAT(replayed.program().to_text(), Not(HasSubstr("arange")));
  replayed.expect_same();
}

TEST(Program, KeepsEqualConstantsOnceAndNoneThatOnlyConstantsRead) {
  const auto x = torch::rand({4, 100, 100});
  const auto mask = [] { return torch::ones({100, 100}).tril() * 3; };
  const std::size_t bytes = mask().nbytes();
  Replayed replayed({x}, [&](const Mark&) -> Tensors { return {(x * mask()).sum() + (x.sin() * mask()).sum()}; });
  EXPECT_EQ(replayed.summary().constants, 6u);
  replayed.expect_same();
  Replayed once({x}, [&](const Mark&) -> Tensors { return {(x * mask()).sum() + (x.sin() * 3).sum()}; });
  EXPECT_LT(replayed.summary().bytes, once.summary().bytes + bytes / 2);
  Replayed none({x}, [&](const Mark&) -> Tensors { return {(x * 3).sum() + (x.sin() * 3).sum()}; });
  EXPECT_LT(replayed.summary().bytes, none.summary().bytes + bytes + bytes / 2);
}

TEST(Program, ComputesAnewWhatLooksConstantAndIsWritten) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    auto ones = torch::ones({6});
    const auto before = ones + 1;
    ones.slice(0, 1, 3).mul_(x[0][0]);
    return {before, ones};
  });
  replayed.expect_same();
}

TEST(Program, LeavesOutWhatNobodyReads) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    (void)(x.t() * 3).sin();
    return {x * 2};
  });
  EXPECT_EQ(replayed.summary().unused, 2u);
  EXPECT_EQ(replayed.summary().operators, 1u);
  replayed.expect_same();
}

TEST(Program, MakesCallsInTheirPlaces) {
  const auto x = matrix();
  std::vector<std::string> seen;
  const auto see = [&](const char* name) {
    return [&seen, name](const Tensors& inputs) {
      seen.push_back(name + std::to_string(inputs[0].item<float>()));
      return Tensors{inputs[0] * 2, torch::Tensor()};
    };
  };
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto first = called("first", {x.sum()}, see("first "))[0];
    const auto second = called("second", {first + 1}, see("second "))[0];
    return {second - 1};
  });
  seen.clear();
  replayed.expect_same(4);
  ASSERT_THAT(seen, SizeIs(16));
  for (std::size_t i = 0; i < seen.size(); i += 4) {
    EXPECT_EQ(seen[i], seen[i + 2]);
    EXPECT_EQ(seen[i + 1], seen[i + 3]);
    EXPECT_THAT(seen[i], HasSubstr("first"));
    EXPECT_THAT(seen[i + 1], HasSubstr("second"));
  }
}

TEST(Program, GivesCallsTheThreadAsTheyHadIt) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    return called("differentiates", {x}, [](const Tensors& inputs) {
      const auto weight = inputs[0].detach().clone().requires_grad_();
      return Tensors{torch::autograd::grad({weight.pow(2).sum()}, {weight})[0]};
    });
  });
  replayed.expect_same();
  Replayed without({x}, [&](const Mark&) -> Tensors {
    const torch::NoGradGuard no_gradients;
    called("looks", {}, [](const Tensors&) {
      EXPECT_FALSE(torch::GradMode::is_enabled());
      return Tensors();
    });
    return {x * 2};
  });
  without.expect_same();
  EXPECT_TRUE(torch::GradMode::is_enabled());
}

TEST(Program, HasResultsThatAreItsInputs) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors { return {x, x.t(), x[1], x.slice(1, 2, 4) * 1}; });
  replayed.expect_same();
  EXPECT_EQ(replayed.results()[0].data_ptr(), x.data_ptr());
  EXPECT_EQ(replayed.results()[2].data_ptr(), x[1].data_ptr());
}

TEST(Program, HasOneResultSeveralTimes) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto y = x * 2, kept = y + 0;
    y.add_(1);
    return {y, kept, y, y[0]};
  });
  replayed.expect_same();
}

TEST(Program, RunsInStretches) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark& mark) -> Tensors {
    const auto y = x * 2;
    const auto first = y.sum();
    mark();
    mark();
    return {first, y * first, x + 1};
  });
  auto& program = replayed.program();
  ASSERT_EQ(program.stretches(), 3u);
  EXPECT_THAT(program.to_text(), AllOf(HasSubstr("aten::sum"), HasSubstr("\n--\n--\n"), HasSubstr("aten::mul.Tensor")));
  replayed.expect_same();
  x.fill_(1);
  program.run(0);
  EXPECT_EQ(replayed.results()[0].item<float>(), 48);
  x.fill_(2);
  program.run(1);
  EXPECT_EQ(replayed.results()[0].item<float>(), 48);
  program.run(2);
  EXPECT_TRUE(replayed.results()[1].equal(torch::full({4, 6}, 96.f)));
  EXPECT_TRUE(replayed.results()[2].equal(torch::full({4, 6}, 3.f)));
}

TEST(Program, ReadsWhatAModuleKeeps) {
  const auto x = matrix();
  const auto kept = torch::ones({6}), in_a_list = torch::ones({6}), in_a_call = torch::ones({});
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto result = called("reads", {in_a_call}, [](const Tensors& in) { return Tensors{in[0] + 1}; })[0];
    return {x * kept.slice(0, 0, 6) + kept * 2, torch::cat({x[0], in_a_list}), result, kept};
  });
  replayed.expect_same();
  kept.fill_(3);
  in_a_list.fill_(4);
  in_a_call.fill_(5);
  replayed.expect_same();
}

TEST(Program, IsOutOfDateWhenATensorThatItReadsIsReplaced) {
  const auto x = matrix();
  auto kept = torch::ones({6}), unread = torch::ones({});
  const std::vector<Replayed::Compute> ways = {
      [&](const Mark&) -> Tensors {
        return {x * kept, kept * 2, kept.slice(0, 1, 3) + kept.view({2, 3})[0][0]};
      },
      [&](const Mark&) -> Tensors {
        return {torch::cat({x[0], kept}), kept};
      },
      [&](const Mark&) -> Tensors { return {kept[0]}; },
      [&](const Mark&) -> Tensors {
        return {x.index({(kept > 0).to(torch::kInt64)}), kept.add_(1).view({2, 3}) * 2};
      },
      [&](const Mark&) -> Tensors {
        return called("reads", {kept, kept[0]}, [](const Tensors& in) { return Tensors{in[0] + in[1]}; });
      },
  };
  for (const auto& way : ways) {
    Replayed replayed({x}, [&](const Mark& mark) {
      (void)(unread * 2);
      return way(mark);
    });
    EXPECT_TRUE(replayed.program().is_current());
    unread = torch::ones({});
    kept.fill_(2);
    replayed.replay();
    EXPECT_TRUE(replayed.program().is_current());
    auto before = std::exchange(kept, torch::ones({6}));
    EXPECT_TRUE(replayed.program().is_current());  // somebody's still
    before.reset();
    EXPECT_FALSE(replayed.program().is_current());
  }
}

TEST(Program, UpdatesRunningStatistics) {
  const auto x = torch::zeros({4, 3, 2, 2}), mean = torch::zeros({3}), variance = torch::zeros({3});
  for (const bool is_read : {true, false}) {
    Replayed replayed({x, mean, variance}, [&](const Mark&) -> Tensors {
      const auto before = mean * 1;
      const auto y = torch::batch_norm(x, {}, {}, mean, variance, true, 0.1, 1e-5, false);
      return {is_read ? y : x, before};
    });
    replayed.expect_same();
  }
}

// A number beside a tensor takes no part in the promotion of types: whole numbers and 1.1 give float32.
TEST(Program, KeepsTypesAndNumbersApart) {
  const auto x = matrix();
  const auto number = torch::scalar_tensor(1.1, torch::kFloat64);
  number.unsafeGetTensorImpl()->set_wrapped_number(true);
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto half = x.to(torch::kBFloat16);
    const auto whole = (x * 1000).to(torch::kInt64);
    return {half * number, whole * number, x.to(torch::kFloat64) * half, x > 0, whole % 2, torch::complex(x, x).abs()};
  });
  replayed.expect_same();
  EXPECT_EQ(replayed.results()[0].scalar_type(), torch::kBFloat16);
  EXPECT_EQ(replayed.results()[1].scalar_type(), torch::kFloat32);
}

TEST(Program, HasTensorsWithoutElements) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto none = x.slice(0, 2, 2) * 2;
    return {none, none.sum(), torch::cat({none, x})};
  });
  replayed.expect_same();
}

TEST(Program, LeavesTheThreadAsItWas) {
  const auto x = matrix(), weight = torch::zeros({6, 6});
  Replayed replayed({x, weight}, [&](const Mark&) -> Tensors {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const auto product = x.mm(weight);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::clear_cache();
    const torch::NoGradGuard no_gradients;
    return {product, x.mm(product.to(torch::kFloat32).t())};
  });
  EXPECT_EQ(replayed.results()[0].scalar_type(), torch::kBFloat16);
  const auto before = ThreadModes::now();
  replayed.expect_same();
  EXPECT_TRUE(ThreadModes::now() == before);
  const torch::NoGradGuard no_gradients;
  replayed.replay();
  EXPECT_FALSE(torch::GradMode::is_enabled());
}

TEST(Program, GoesOnAfterACallThatThrows) {
  const auto x = matrix();
  bool throws = false;
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto y = x.clone();
    const auto may_throw = [&](const Tensors&) {
      if (throws) throw std::runtime_error("no");
      return Tensors();
    };
    called("may throw", {y}, may_throw);
    return {y * 2};
  });
  throws = true;
  EXPECT_THROW(replayed.replay(), std::runtime_error);
  EXPECT_TRUE(torch::GradMode::is_enabled());
  throws = false;
  replayed.expect_same();
}

TEST(Program, TellsWhoWatchesWhatItComputes) {
  const auto x = matrix();
  int outer = 0, inner = 0;
  const auto count = [](int& calls) {
    return [&calls](const Tensors&) {
      ++calls;
      return Tensors();
    };
  };
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto y = x.t() * 2;  // operators 0 and 1
    called("outer", {y}, count(outer));
    called("inner", {y}, count(inner), /*is_inner=*/true);
    x.add_(1);
    return {y.sum(), y.clone()};
  });
  EXPECT_FALSE(replayed.program().needs_calls());
  ASSERT_THAT(replayed.program().written(), SizeIs(1));  // what is not the program's own
  EXPECT_EQ(replayed.program().written()[0].data_ptr(), x.data_ptr());
  EXPECT_EQ(replayed.program().written()[0].nbytes(), x.nbytes());
  outer = inner = 0;
  std::vector<std::size_t> numbers;
  std::vector<std::string> names;
  Tensors results;
  x.fill_(3);
  replayed.program().run_watched(0, [&](std::size_t number, const std::string& name, const Tensors& computed) {
    numbers.push_back(number);
    names.push_back(name);
    ASSERT_THAT(computed, SizeIs(1));
    results.push_back(computed[0].clone());
  });
  EXPECT_THAT(numbers, ElementsAre(1, 4, 5, 6));
  EXPECT_THAT(names, ElementsAre("aten::mul.Scalar", "aten::add_.Scalar", "aten::sum", "aten::clone"));
  EXPECT_EQ(outer, 0);
  EXPECT_EQ(inner, 1);
  EXPECT_TRUE(results[0].equal(torch::full({6, 4}, 6.f)));
  EXPECT_TRUE(results[1].equal(torch::full({4, 6}, 4.f)));
  EXPECT_EQ(results[2].item<float>(), 144);
}

TEST(Program, NeedsCallsWhoseResultsAreRead) {
  const auto x = matrix();
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    return {called("doubles", {x}, [](const Tensors& in) { return Tensors{in[0] * 2}; })[0] + 1};
  });
  EXPECT_TRUE(replayed.program().needs_calls());
  replayed.expect_same();
}

TEST(Program, SaysWhatItIs) {
  const auto x = torch::zeros({1000});
  Replayed replayed({x}, [&](const Mark&) -> Tensors {
    const auto y = (x.view({10, 100}).t() + torch::arange(10)).contiguous();  // view, t; arange; add, clone
    (void)y.sin();
    auto z = y;
    for (int i = 0; i < 5; ++i) z = z.exp();
    return {z.sum()};
  });
  const auto& summary = replayed.summary();
  EXPECT_EQ(summary.recorded, 12u);
  EXPECT_EQ(summary.views, 2u);
  EXPECT_EQ(summary.constants, 1u);
  EXPECT_EQ(summary.unused, 1u);
  EXPECT_EQ(summary.operators, 8u);
  EXPECT_EQ(summary.operators, summary.recorded - summary.views - summary.constants - summary.unused);
  EXPECT_LT(summary.bytes, 4 * x.nbytes());  // of ten tensors of that size
  EXPECT_GT(summary.bytes, 2 * x.nbytes());
  replayed.program().set_timed(true);
  replayed.expect_same();
  EXPECT_THAT(replayed.program().to_text(), HasSubstr(" us  "));
}

TEST(Program, IsOutOfDateThoughAnotherProgramReadsTheSameTensor) {
  const auto x = matrix(), y = torch::zeros({2, 6});
  auto kept = torch::ones({6});
  Replayed first({x}, [&](const Mark&) -> Tensors { return {x * kept}; });
  Replayed second({y}, [&](const Mark&) -> Tensors { return {y * kept}; });
  EXPECT_TRUE(first.program().is_current());
  kept = torch::full({6}, 2.f);
  EXPECT_FALSE(first.program().is_current());
  EXPECT_FALSE(second.program().is_current());
}

}  // namespace
}  // namespace troupe::capture
