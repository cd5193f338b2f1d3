// What is recorded of a computation, and what two recordings say of each other.
#include "troupe/runtime/capture/recording.hpp"

#include "troupe/runtime/capture/agreement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace troupe::capture {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

using Computation = std::function<void()>;

Recording recording_of(const std::vector<torch::Tensor>& inputs, const Computation& compute) {
  Recorder recorder;
  for (std::size_t i = 0; i < inputs.size(); ++i) recorder.give("input " + std::to_string(i), inputs[i]);
  {
    const Recorded recorded(&recorder);
    compute();
  }
  return recorder.take();
}

std::vector<std::string> names_of_actions(const Recording& recording) {
  std::vector<std::string> names;
  for (const auto& action : recording.actions) names.push_back(action.name);
  return names;
}

torch::Tensor input() {
  return torch::arange(24, torch::kFloat32).view({4, 6}) / 10 - 1;
}

// --- What is recorded ---

TEST(Recording, HasTheOperatorsOfForwardAndBackward) {
  const auto x = input();
  const auto weight = torch::ones({6, 2}).requires_grad_();
  torch::Tensor loss;
  const auto forward = recording_of({x, weight}, [&] { loss = torch::relu(x.mm(weight)).sum(); });
  EXPECT_THAT(names_of_actions(forward), ElementsAre("aten::mm", "aten::relu", "aten::sum"));
  const auto backward = recording_of({x, weight}, [&] { loss.backward(); });
  EXPECT_THAT(names_of_actions(backward),
              AllOf(Contains("aten::ones_like"), Contains("aten::threshold_backward"), Contains("aten::mm").Times(1)));
  EXPECT_EQ(forward.refusal + backward.refusal, "");
}

TEST(Recording, HasWhatOperatorsWereGiven) {
  const auto x = input();
  const auto recording = recording_of({x}, [&] { (void)torch::cat({x.slice(1, 2, 4).add(x[0][0], 0.5), x}, 1); });
  ASSERT_EQ(names_of_actions(recording),
            (std::vector<std::string>{"aten::slice.Tensor", "aten::select.int", "aten::select.int", "aten::add.Tensor",
                                      "aten::cat"}));
  const Action& add = recording.actions[3];
  EXPECT_EQ(std::get<View>(add.arguments[0]), (View{0, torch::kFloat32, 2, {4, 2}, {6, 1}, false}));
  EXPECT_EQ(std::get<View>(add.arguments[1]), (View{0, torch::kFloat32, 0, {}, {}, false}));
  EXPECT_EQ(std::get<c10::IValue>(add.arguments[2]).toDouble(), 0.5);
  ASSERT_THAT(add.results, SizeIs(1));
  EXPECT_EQ(*add.results[0], (View{1, torch::kFloat32, 0, {4, 2}, {2, 1}, false}));
  EXPECT_EQ(to_text(*add.results[0]), "Float [4, 2]");
  const auto& list = std::get<ViewList>(recording.actions[4].arguments[0]);
  ASSERT_THAT(list.views, SizeIs(2));
  EXPECT_EQ(list.views[0], add.results[0]);
  EXPECT_EQ(list.views[1]->memory, 0u);
  ASSERT_THAT(recording.memories, SizeIs(3));
  EXPECT_EQ(recording.memories[0].kind, Memory::Kind::given);
  EXPECT_EQ(recording.memories[0].name, "input 0");
  EXPECT_EQ(recording.memories[0].bytes, 24 * sizeof(float));
  EXPECT_EQ(recording.memories[1].kind, Memory::Kind::computed);
}

TEST(Recording, MarksWhatOnlyLooksAtMemory) {
  const auto x = input();
  const auto views = recording_of({x}, [&] {
    (void)x.t();
    (void)x.slice(1, 1, 5, 2).expand({3, 4, 2});
    (void)x.view({-1}).unfold(0, 4, 4);
    (void)torch::empty_like(x);
  });
  for (const auto& action : views.actions) {
    EXPECT_TRUE(action.is_view) << action.name;
    EXPECT_EQ(action.results[0]->memory, action.name == "aten::empty_like" ? 1u : 0u) << action.name;
  }
  const auto others = recording_of({x}, [&] {
    (void)x.clone();
    x.mul_(2);
    x.slice(1, 0, 1).fill_(0);
    (void)torch::zeros({3});
  });
  EXPECT_EQ(std::ranges::count_if(others.actions, [](const auto& action) { return action.is_view; }), 1);  // the slice
  EXPECT_TRUE(others.memories[0].is_written);
  EXPECT_FALSE(views.memories[0].is_written);
}

TEST(Recording, HoldsNoComputedMemoryAlive) {
  const auto x = input();
  const auto weight = torch::ones({6, 2}).requires_grad_();
  const auto uses = x.storage().use_count();
  Recorder recorder;
  recorder.give("x", x);
  recorder.give("weight", weight);
  {
    const Recorded recorded(&recorder);
    torch::gelu(x.mm(weight)).t().sum().backward();
  }
  weight.mutable_grad().reset();
  std::size_t computed = 0;
  for (const auto& memory : recorder.recording().memories) {
    if (memory.kind != Memory::Kind::computed) continue;
    ++computed;
    EXPECT_FALSE(memory.storage);
    EXPECT_TRUE(memory.identity.expired());
  }
  EXPECT_GE(computed, 5u);
  EXPECT_EQ(x.storage().use_count(), uses + 1);  // what was given is kept
}

TEST(Recording, CountsTheMemoryOfOneTime) {
  const auto x = torch::ones({1000});
  const auto recording = recording_of({x}, [&] {
    auto y = x * 2;
    for (int i = 0; i < 5; ++i) y = y + 1;
  });
  EXPECT_EQ(recording.peak_bytes, 2 * x.nbytes());
}

TEST(Recording, MarksOperatorsThatDraw) {
  const auto x = input();
  const auto recording = recording_of({x}, [&] {
    (void)torch::dropout(x, 0.5, true);
    (void)torch::rand({3});
    (void)torch::randperm(4);
  });
  std::vector<std::string> random;
  for (const auto& action : recording.actions) {
    if (action.is_random) random.push_back(action.name);
    EXPECT_FALSE(action.is_random && action.is_view);
  }
  EXPECT_THAT(random, ElementsAre("aten::bernoulli_.float", "aten::rand", "aten::randperm"));
}

TEST(Recording, EndsWhereANumberIsRead) {
  const auto x = torch::ones({3});
  double number = 0;
  torch::Tensor after;
  const auto recording = recording_of({x}, [&] {
    number = (x * 2).sum().item<double>();
    after = x * number;
  });
  EXPECT_THAT(recording.refusal, HasSubstr("reads a number back to the host (item()"));
  EXPECT_THAT(names_of_actions(recording), ElementsAre("aten::mul.Scalar", "aten::sum"));
  EXPECT_EQ(number, 6);
  EXPECT_TRUE(after.equal(torch::full({3}, 6.f)));  // computed as always
}

TEST(Recording, RefusesWhatAReplayCannotDo) {
  const auto x = input();
  const auto refusal = [&](const Computation& compute) { return recording_of({x}, compute).refusal; };
  EXPECT_THAT(refusal([&] { (void)torch::nonzero(x); }), HasSubstr("aten::nonzero"));
  EXPECT_THAT(refusal([&] { (void)x.index({x > 0}); }), HasSubstr("a mask"));
  EXPECT_THAT(refusal([&] { (void)x.equal(x); }), HasSubstr("aten::equal"));
  EXPECT_THAT(refusal([&] { (void)x.to_sparse(); }), Not(IsEmpty()));
  EXPECT_THAT(refusal([&] { (void)(torch::complex(x, x).conj() * 2); }), HasSubstr("conjugated"));
  EXPECT_THAT(refusal([&] { x.clone().resize_({3}); }), HasSubstr("aten::resize_"));
  EXPECT_EQ(refusal([&] { (void)(x * 2); }), "");
  EXPECT_EQ(refusal([&] {
              StepRecorder::current()->refuse("first");
              StepRecorder::current()->refuse("second");
            }),
            "first");
}

TEST(Recording, HasWhatWasDoneWhileItWasResumed) {
  const auto x = input();
  Recorder recorder;
  recorder.give("x", x);
  (void)(x + 1);
  recorder.resume();
  EXPECT_TRUE(recorder.is_resumed());
  EXPECT_EQ(StepRecorder::current(), &recorder);
  (void)(x * 1);
  std::thread([&] { (void)(x - 1); }).join();  // another thread's
  recorder.mark();
  recorder.pause();
  EXPECT_EQ(StepRecorder::current(), nullptr);
  (void)(x / 2);
  recorder.resume();
  (void)(x * x);
  recorder.pause();
  EXPECT_THAT(names_of_actions(recorder.recording()), ElementsAre("aten::mul.Scalar", "aten::mul.Tensor"));
  EXPECT_THAT(recorder.recording().marks, ElementsAre(1));
}

// A parameter's first gradient is what the last operator has computed. A copy of it would be other memory.
TEST(Recording, LeavesGradientsToAutograd) {
  const auto x = input();
  const auto weight = torch::ones({6, 2}).requires_grad_();
  const auto bias = torch::zeros({2}).requires_grad_();
  Recorder recorder;
  for (const auto& each : {x, weight, bias}) recorder.give("", each);
  {
    const Recorded recorded(&recorder);
    torch::addmm(bias, x, weight).pow(2).sum().backward();
  }
  EXPECT_THAT(names_of_actions(recorder.recording()), Each(Not(AnyOf(HasSubstr("clone"), HasSubstr("copy")))));
  for (const auto& each : {weight, bias}) {
    const auto view = recorder.view_of(each.grad());
    ASSERT_TRUE(view.has_value());
    const auto& actions = recorder.recording().actions;
    const auto maker = std::ranges::find_if(actions, [&](const auto& action) {
      return !action.is_view && action.results[0] && action.results[0]->memory == view->memory;
    });
    ASSERT_NE(maker, actions.end());
    EXPECT_THAT(maker->name, AnyOf(HasSubstr("aten::mm"), HasSubstr("aten::sum")));
    EXPECT_EQ(each.grad().storage().use_count(), 1);
  }
  EXPECT_EQ(recorder.recording().refusal, "");
}

TEST(Recording, TellsWhoWatchesWhatWasComputed) {
  const auto x = input();
  Recorder recorder;
  recorder.give("x", x);
  std::vector<std::string> seen;
  recorder.set_watch([&](std::size_t number, const std::string& name, const std::vector<torch::Tensor>& results) {
    ASSERT_THAT(results, SizeIs(1));
    seen.push_back(std::to_string(number) + " " + name + " " + std::to_string(results[0].numel()));
  });
  {
    const Recorded recorded(&recorder);
    (void)(x.t() * 2).sum();
  }
  EXPECT_THAT(seen, ElementsAre("1 aten::mul.Scalar 24", "2 aten::sum 1"));
}

// --- Calls ---

TEST(Recording, HasACallAsOneAction) {
  const auto x = input();
  torch::Tensor result;
  const auto recording = recording_of({x}, [&] {
    const auto y = x * 2;
    result = StepRecorder::current()->call("halves", {y, torch::Tensor()}, [](const auto& inputs) {
      EXPECT_EQ(StepRecorder::current(), nullptr);
      EXPECT_FALSE(inputs[1].defined());
      return std::vector<torch::Tensor>{(inputs[0] + 0).sum(0) / 2, torch::Tensor()};
    })[0];
    (void)(result - 1);
  });
  ASSERT_THAT(names_of_actions(recording), ElementsAre("aten::mul.Scalar", "halves", "aten::sub.Scalar"));
  const Action& call = recording.actions[1];
  EXPECT_FALSE(call.op.has_value());
  EXPECT_FALSE(call.is_view);
  EXPECT_FALSE(call.is_inner);
  EXPECT_EQ(std::get<View>(call.arguments[0]), *recording.actions[0].results[0]);
  ASSERT_THAT(call.results, SizeIs(2));
  EXPECT_EQ(call.results[0]->sizes, std::vector<int64_t>{6});
  EXPECT_FALSE(call.results[1].has_value());
  EXPECT_EQ(std::get<View>(recording.actions[2].arguments[0]), *call.results[0]);
  EXPECT_TRUE(call.again({x, torch::Tensor()})[0].equal(x.sum(0) / 2));
  EXPECT_TRUE(result.equal(x.sum(0)));
}

TEST(Recording, GoesOnAfterACallThatThrows) {
  const auto x = input();
  const auto recording = recording_of({x}, [&] {
    const auto fail = [](const auto&) -> std::vector<torch::Tensor> { throw std::runtime_error("no"); };
    EXPECT_THROW((void)StepRecorder::current()->call("fails", {x}, fail), std::runtime_error);
    (void)(x * 2);
  });
  EXPECT_THAT(names_of_actions(recording), ElementsAre("aten::mul.Scalar"));
}

// --- Two recordings ---

std::string difference_of(const std::vector<torch::Tensor>& inputs, const Computation& first,
                          const Computation& second) {
  const auto a = recording_of(inputs, first), b = recording_of(inputs, second);
  EXPECT_EQ(a.refusal + b.refusal, "");
  return difference(a, b);
}

TEST(Agreement, IsThereForTheSameStepTwice) {
  const auto x = input();
  const auto weight = torch::ones({6, 2}).requires_grad_();
  const auto step = [&] {
    weight.mutable_grad().reset();
    const auto y = torch::dropout(torch::cat({x.mm(weight), x.mm(weight * 0.5)}, 1), 0.5, true);
    (y * torch::tensor({1.f, 2.f, 3.f, 4.f}) + torch::arange(4)).sum().backward();
  };
  EXPECT_EQ(difference_of({x, weight}, step, step), "");
}

TEST(Agreement, NamesANumberThatDiffers) {
  const auto x = input();
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)(x * 2); }, [&] { (void)(x * 3); }),
            "operator 0, aten::mul.Scalar: its argument other is 2 in one step and 3 in the next");
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)x.sum(0); }, [&] { (void)x.sum(1); }),
            "operator 0, aten::sum.dim_IntList: its argument dim is [0] in one step and [1] in the next");
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)x.sum(0, false); }, [&] { (void)x.sum(0, true); }),
            "operator 0, aten::sum.dim_IntList: its argument keepdim is False in one step and True in the next");
  EXPECT_THAT(difference_of(
                  {x}, [&] { (void)(x * 2); }, [&] { (void)(x * 2.0); }),
              HasSubstr("its argument other is 2 in one step and 2. in the next"));
  EXPECT_THAT(difference_of(
                  {x}, [&] { (void)(x + 0.0); }, [&] { (void)(x + -0.0); }),
              HasSubstr("operator 0, aten::add.Scalar: its argument other is"));
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)x.clamp(-NAN); }, [&] { (void)x.clamp(-NAN); }),
            "");
}

TEST(Agreement, NamesAShapeOrATypeThatDiffers) {
  const auto x = input();
  const auto narrow = x.slice(1, 0, 5), doubled = x.to(torch::kFloat64), whole = x.t();
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)x.sum(); }, [&] { (void)narrow.sum(); }),
            "operator 0, aten::sum: its argument self Float [4, 6] in one step and Float [4, 5] in the next");
  EXPECT_EQ(difference_of(
                {x, doubled}, [&] { (void)x.sum(); }, [&] { (void)doubled.sum(); }),
            "operator 0, aten::sum: its argument self Float [4, 6] in one step and Double [4, 6] in the next");
  EXPECT_EQ(difference_of(
                {}, [&] { (void)torch::zeros({3}); }, [&] { (void)torch::zeros({4}); }),
            "operator 0, aten::zeros: its argument size is [3] in one step and [4] in the next");
}

TEST(Agreement, NamesStridesAndPlacesThatDiffer) {
  const auto x = input();
  const auto square = x.slice(1, 0, 4), turned = square.t(), right = x.slice(1, 2, 6);
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)square.sum(); }, [&] { (void)turned.sum(); }),
            "operator 0, aten::sum: its argument self has strides [6, 1] at 0 in one step and [1, 6] at 0 in the next");
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)square.sum(); }, [&] { (void)right.sum(); }),
            "operator 0, aten::sum: its argument self has strides [6, 1] at 0 in one step and [6, 1] at 2 in the next");
}

TEST(Agreement, NamesAnotherOperatorAndMoreOfThem) {
  const auto x = input();
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)(x * 2).sin(); }, [&] { (void)(x * 2).cos(); }),
            "operator 1 is aten::sin in one step and aten::cos in the next");
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)x.sin(); }, [&] { (void)x.sin().tan(); }),
            "one step has 1 operators and the next 2: operator 1, aten::tan, is in one of them alone");
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)x.sin().tan(); }, [&] { (void)x.sin(); }),
            "one step has 2 operators and the next 1: operator 1, aten::tan, is in one of them alone");
}

TEST(Agreement, NamesAnotherTensor) {
  const auto x = input(), y = input();
  EXPECT_EQ(difference_of(
                {x, y}, [&] { (void)x.sin(); }, [&] { (void)y.sin(); }),
            "operator 0, aten::sin: its argument self is another tensor in the next step");
  EXPECT_EQ(difference_of(
                {x, y},
                [&] {
                  (void)torch::cat({x, y});
                },
                [&] {
                  (void)torch::cat({x, y, y});
                }),
            "operator 0, aten::cat: its argument tensors is 2 tensors in one step and 3 tensors in the next");
  EXPECT_EQ(difference_of(
                {x}, [&] { (void)torch::layer_norm(x, {6}); }, [&] { (void)torch::layer_norm(x, {6}, x[0]); }),
            "operator 0 is aten::native_layer_norm in one step and aten::select.int in the next");
  const auto a = recording_of({x}, [&] { (void)x.sin(); }), b = recording_of({y}, [&] { (void)y.sin(); });
  EXPECT_EQ(difference(a, b), "input 0 lies elsewhere in the next step");
}

TEST(Agreement, TellsCallsApart) {
  const auto x = input(), y = input();
  const auto called = [&](const char* name, const torch::Tensor& tensor) {
    return [name, tensor] {
      (void)StepRecorder::current()->call(name, {tensor}, [](const auto&) { return std::vector<torch::Tensor>(); });
    };
  };
  EXPECT_EQ(difference_of({x, y}, called("a", x), called("a", x)), "");
  EXPECT_EQ(difference_of({x, y}, called("a", x), called("b", x)), "operator 0 is a in one step and b in the next");
  EXPECT_EQ(difference_of({x, y}, called("a", x), called("a", y)),
            "operator 0, a: its argument 0 is another tensor in the next step");
}

// Tensors that no operator has made: a module's own are the same memory, and others have the same content.
TEST(Agreement, IsAboutTensorsThatTheStepFindsToo) {
  const auto x = input();
  auto kept = torch::ones({6});
  const auto uses_kept = [&] { (void)(x * kept); };
  EXPECT_EQ(difference_of({x}, uses_kept, uses_kept), "");
  const auto uses_new = [&](float number) {
    return [&x, number] { (void)(x * torch::from_blob(std::vector<float>(6, number).data(), {6}).clone()); };
  };
  EXPECT_EQ(difference_of({x}, uses_new(2), uses_new(2)), "");
  EXPECT_THAT(difference_of({x}, uses_new(2), uses_new(3)),
              AllOf(HasSubstr("operator 0, aten::clone: its argument, Float [6]"),
                    HasSubstr("is made of numbers of the host, which differ between two steps")));
  const auto replaces = [&] {
    kept = kept * 1.5;
    (void)(x * kept);
  };
  EXPECT_THAT(difference_of({x}, replaces, replaces), HasSubstr("operator 0, aten::mul.Scalar: its argument"));
  const auto large = [&] {
    (void)torch::from_blob(std::vector<char>(2'000'000).data(), {2'000'000}, torch::kChar).sum();
  };
  EXPECT_THAT(difference_of({x}, large, large), HasSubstr("is a large tensor that is made outside of the step"));
  const auto writes = [&] { torch::from_blob(std::vector<float>(6).data(), {6}).add_(1); };
  EXPECT_THAT(difference_of({x}, writes, writes),
              HasSubstr("is a tensor that the step keeps for the next one, in other memory each time"));
}

TEST(Agreement, FindsWhatIsKept) {
  const auto x = input(), kept = torch::ones({6});
  const auto compute = [&] {
    auto made = torch::empty({6});
    std::fill_n(made.mutable_data_ptr<float>(), 6, 2.f);
    (void)(x * kept * made);
  };
  const auto first = recording_of({x}, compute);
  auto second = recording_of({x}, compute);
  ASSERT_EQ(difference(first, second), "");
  mark_kept(first, second);
  std::vector<bool> are_kept;
  for (const auto& memory : second.memories) {
    if (memory.kind == Memory::Kind::found) are_kept.push_back(memory.is_kept);
  }
  EXPECT_THAT(are_kept, ElementsAre(false, true));  // `made` was there first
}

}  // namespace
}  // namespace troupe::capture
