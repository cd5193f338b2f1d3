#include "troupe/runtime/inference/forward_capture.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/support/module_tensors.hpp"
#include "troupe/runtime/capture/agreement.hpp"
#include "troupe/runtime/capture/offered_memory.hpp"
#include "troupe/runtime/capture/operators.hpp"
#include "troupe/runtime/capture/product_choice.hpp"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace troupe::inference {

namespace {

constexpr std::size_t most_recipes = 64;
// So often a shape comes before it takes another one's place.
constexpr int64_t misses_for_a_place = 8;

std::string input_text(const torch::Tensor& input) {
  return c10::str(input.scalar_type(), " ", input.sizes());
}

// Of the input, or of a tensor that the module keeps.
bool is_shared(const torch::Tensor& result) {
  return result.use_count() > 1 || (result.has_storage() && result.storage().use_count() > 1);
}

// In eval mode batch norm does not write what its schema says.
bool writes_for_sure(const capture::Action& action, std::size_t index) {
  if (!capture::writes(*action.op, index)) return false;
  if (action.name != "aten::native_batch_norm") return true;
  const auto* is_training = std::get_if<c10::IValue>(&action.arguments[5]);
  return !is_training || is_training->toBool();
}

// Attention is tagged as random for the dropout that it has in training.
bool draws_in_fact(const capture::Action& action) {
  if (!action.is_random) return false;
  const auto& arguments = action.op->schema().arguments();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto* value = std::get_if<c10::IValue>(&action.arguments[i]);
    if (arguments[i].name() == "dropout_p" && value && value->isDouble() && value->toDouble() == 0) return false;
  }
  return true;
}

// Why a recording cannot stand for any forward of these shapes.
std::string reason_against_recording(const capture::Recording& recording) {
  if (!recording.refusal.empty()) return recording.refusal;
  for (const auto& action : recording.actions) {
    if (!action.op) return "it does " + action.name + ", which a replay does not";
    if (draws_in_fact(action)) return action.name + " draws random numbers";
    std::string written;
    for (std::size_t i = 0; i < action.arguments.size(); ++i) {
      capture::for_views(action.arguments[i], [&](const capture::View& view) {
        const auto& memory = recording.memories[view.memory];
        if (memory.kind == capture::Memory::Kind::computed || !writes_for_sure(action, i)) return;
        written = memory.name.empty() ? "a tensor that the module keeps" : memory.name;
      });
    }
    if (!written.empty()) return action.name + " writes to " + written;
  }
  return "";
}

}  // namespace

/// What is known of inputs of one shape.
struct ForwardCapture::Recipe {
  std::vector<int64_t> sizes;
  torch::ScalarType type;
  uint64_t last_call = 0;
  int64_t seen = 0, misses = 0;
  std::string refusal;
  torch::Tensor input;  // memory of both recordings
  std::optional<capture::Recording> first, recording;
  capture::View result;
  Fused fused;
  bool is_fused = false;
  std::vector<c10::Storage> kept;  // tensors of the module's that the recording reads
  CapturedProgram summary;
  std::vector<std::shared_ptr<std::atomic<int64_t>>> replays;  // of each program
  int64_t former_replays = 0;                                  // of programs that had to make room

  void count_former() {
    std::erase_if(replays, [&](const auto& count) {
      if (count.use_count() > 1) return false;
      former_replays += count->load(std::memory_order_relaxed);
      return true;
    });
  }
};

/// A program in a lane.
struct ForwardCapture::Replay {
  std::vector<int64_t> sizes;
  torch::ScalarType type;
  bool is_fused = false;
  torch::Tensor input;  // whose memory is that of each input in turn
  std::unique_ptr<capture::Program> program;
  std::vector<c10::Storage> kept;  // what the program reads of the module's
  uint64_t last_run = 0;
  std::shared_ptr<std::atomic<int64_t>> count = std::make_shared<std::atomic<int64_t>>(0);

  bool is_for(const torch::Tensor& other) const { return type == other.scalar_type() && other.sizes().equals(sizes); }
};

struct alignas(64) ForwardCapture::Lane {
  std::atomic<bool> is_taken = false;
  std::vector<std::unique_ptr<Replay>> replays;
  uint64_t runs = 0;
};

struct ForwardCapture::Recorded {
  capture::Recording recording;
  std::optional<capture::View> result;
  torch::Tensor output;
};

/// The lane that a thread has meanwhile; null if none is free.
class ForwardCapture::LaneHold {
 public:
  explicit LaneHold(const std::vector<std::unique_ptr<Lane>>& lanes) {
    static thread_local std::size_t last = 0;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      const std::size_t index = (last + i) % lanes.size();
      Lane& lane = *lanes[index];
      if (lane.is_taken.load(std::memory_order_relaxed) || lane.is_taken.exchange(true, std::memory_order_acquire)) {
        continue;
      }
      last = index;
      lane_ = &lane;
      return;
    }
  }
  ~LaneHold() {
    if (lane_) lane_->is_taken.store(false, std::memory_order_release);
  }
  LaneHold(const LaneHold&) = delete;
  LaneHold& operator=(const LaneHold&) = delete;

  Lane* lane() const { return lane_; }

 private:
  Lane* lane_ = nullptr;
};

ForwardCapture::ForwardCapture(const torch::nn::Module& module, Forward forward, const ForwardCaptureOptions& options)
    : module_(module), forward_(std::move(forward)), options_(options) {
  if (options.capture != CaptureStep::off) capture::prepare_for_offers();
  for (std::size_t i = 0; i < std::max<std::size_t>(1, options.max_callers); ++i) {
    lanes_.push_back(std::make_unique<Lane>());
  }
}

ForwardCapture::~ForwardCapture() = default;

torch::Tensor ForwardCapture::plain(const torch::Tensor& input) const {
  auto result = forward_(input);
  if (!result.defined()) throw UsageError("forward returned an undefined tensor");
  return is_shared(result) ? result.clone() : result;
}

torch::Tensor ForwardCapture::compute(const torch::Tensor& input) {
  const bool can_be = options_.capture != CaptureStep::off && input.layout() == torch::kStrided && input.numel() > 0 &&
                      input.device().is_cpu() && (input.is_contiguous() || !options_.exact) && !input.is_neg() &&
                      !input.is_conj();
  if (!can_be) return plain(input);
  const auto dense = input.is_contiguous() ? input : input.contiguous();
  const LaneHold hold(lanes_);
  if (!hold.lane()) return plain(dense);
  for (const auto& replay : hold.lane()->replays) {
    if (replay->is_for(dense)) return run(*hold.lane(), *replay, dense);
  }
  return learn(*hold.lane(), dense);
}

// --- Replays ---

torch::Tensor ForwardCapture::run(Lane& lane, Replay& replay, const torch::Tensor& input) const {
  const auto& storage = replay.input.storage();
  storage.set_data_ptr_noswap(c10::DataPtr(const_cast<void*>(input.const_data_ptr()), c10::kCPU));
  replay.program->run(0);
  const auto& from = replay.program->results().front();
  torch::Tensor result;
  if (from.is_contiguous()) {
    result = at::detail::empty_cpu(from.sizes(), from.options());
    std::memcpy(result.mutable_data_ptr(), from.const_data_ptr(), from.nbytes());
  } else {
    result = from.clone();
  }
  storage.set_data_ptr_noswap(c10::DataPtr(nullptr, c10::kCPU));
  replay.last_run = ++lane.runs;
  replay.count->store(replay.count->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (options_.capture == CaptureStep::check && !agrees(result, plain(input), !replay.is_fused)) [[unlikely]] {
    throw UsageError("a replay of forward differs from forward for " + input_text(input) +
                     ": it depends on something besides its input; set PredictorOptions::capture = off");
  }
  return result;
}

bool ForwardCapture::agrees(const torch::Tensor& replayed, const torch::Tensor& expected, bool is_exact) const {
  if (is_exact || !expected.is_floating_point()) return capture::has_same_bits(replayed, expected);
  if (replayed.sizes() != expected.sizes() || replayed.scalar_type() != expected.scalar_type()) return false;
  constexpr double tolerance = 1e-5;  // of the largest number: more than sums in another order make
  const auto finite = torch::where(expected.isfinite(), expected, torch::zeros_like(expected)).abs();
  const double most = finite.numel() == 0 ? 0 : finite.max().item<double>();
  return torch::allclose(replayed, expected, 0, tolerance * std::max(most, 1e-3), /*equal_nan=*/true);
}

// --- What is not there yet ---

ForwardCapture::Recipe& ForwardCapture::recipe_for(const torch::Tensor& input) {
  const auto found = std::ranges::find_if(recipes_, [&](const auto& each) {
    return each->type == input.scalar_type() && input.sizes().equals(each->sizes);
  });
  if (found != recipes_.end()) {
    (*found)->last_call = ++calls_;
    return **found;
  }
  if (recipes_.size() == most_recipes) {
    recipes_.erase(std::ranges::min_element(recipes_, {}, [](const auto& each) { return each->last_call; }));
  }
  recipes_.push_back(std::make_unique<Recipe>());
  recipes_.back()->sizes = input.sizes().vec();
  recipes_.back()->type = input.scalar_type();
  recipes_.back()->last_call = ++calls_;
  return *recipes_.back();
}

torch::Tensor ForwardCapture::learn(Lane& lane, const torch::Tensor& input) {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return plain(input);
  Recipe& recipe = recipe_for(input);
  ++recipe.seen;
  if (!recipe.refusal.empty() || recipe.seen == 1) {
    if (!recipe.refusal.empty() && options_.capture == CaptureStep::require) throw UsageError(recipe.refusal);
    lock.unlock();
    return plain(input);
  }
  if (!recipe.recording) {
    if (!recipe.input.defined()) recipe.input = at::empty(input.sizes(), input.options());
    recipe.input.copy_(input);
    auto recorded = record(recipe.input);
    if (capture::elements_past_vector(input) != 0) recorded.output = plain(input);  // it may have other bits
    auto output = is_shared(recorded.output) ? recorded.output.clone() : recorded.output;
    take_second(recipe, std::move(recorded), input, lane);
    if (!recipe.refusal.empty() && options_.capture == CaptureStep::require) throw UsageError(recipe.refusal);
    return output;
  }
  if (lane.replays.size() >= options_.max_shapes && ++recipe.misses % misses_for_a_place != 0) {
    lock.unlock();
    return plain(input);
  }
  auto replay = make_replay(recipe, input, recipe.is_fused);
  lock.unlock();
  keep(lane, std::move(replay));
  return run(lane, *lane.replays.back(), input);
}

ForwardCapture::Recorded ForwardCapture::record(const torch::Tensor& input) const {
  capture::Recorder recorder;
  recorder.give("the input", input);
  for (const auto& each : distinct_parameters(module_)) recorder.give(each.name(), each.tensor);
  for (const auto& each : distinct_buffers(module_)) recorder.give(each.name(), each.tensor);
  Recorded recorded;
  {
    const capture::Recorded recording(&recorder);
    recorded.output = forward_(input);
  }
  if (!recorded.output.defined()) throw UsageError("forward returned an undefined tensor");
  recorded.result = recorder.view_of(recorded.output);
  recorder.mark();
  recorded.recording = recorder.take();
  return recorded;
}

// The first recording waits for one that agrees.
void ForwardCapture::take_second(Recipe& recipe, Recorded recorded, const torch::Tensor& input, Lane& lane) {
  auto& recording = recorded.recording;
  if (const auto reason = reason_against_recording(recording); !reason.empty()) return refuse(recipe, reason);
  if (!recipe.first) {
    recipe.first = std::move(recording);
    return;
  }
  if (const auto what = capture::difference(*recipe.first, recording); !what.empty()) {
    return refuse(recipe, "two calls differ: " + what);
  }
  capture::mark_kept(*recipe.first, recording);
  recipe.first.reset();
  recording.memories.front().storage = {};  // each program has an input of its own
  recipe.input.reset();
  for (const auto& memory : recording.memories) {
    if (memory.kind != capture::Memory::Kind::found || !memory.is_kept) continue;
    auto storage = memory.identity.lock();
    if (storage) recipe.kept.emplace_back(std::move(storage));
  }
  recipe.result = *recorded.result;
  recipe.recording = std::move(recording);
  try {
    if (!options_.exact) {
      recipe.fused = fuse(*recipe.recording, 1, {recipe.result}, weights_);
      recipe.is_fused = !recipe.fused.kernels.empty();
    }
    for (const bool is_fused : {true, false}) {
      if (is_fused && !recipe.is_fused) continue;
      auto replay = make_replay(recipe, input, is_fused);
      Replay& made = *replay;
      const auto result = [&] {
        made.input.storage().set_data_ptr_noswap(c10::DataPtr(const_cast<void*>(input.const_data_ptr()), c10::kCPU));
        made.program->run(0);
        return made.program->results().front().clone();
      }();
      if (!agrees(result, recorded.output, !is_fused)) continue;
      recipe.is_fused = is_fused;
      keep(lane, std::move(replay));
      return;
    }
    refuse(recipe, "its replay differs from forward");
  } catch (const std::exception& error) {
    refuse(recipe, error.what());
  }
}

std::unique_ptr<ForwardCapture::Replay> ForwardCapture::make_replay(Recipe& recipe, const torch::Tensor& input,
                                                                    bool is_fused) {
  auto replay = std::make_unique<Replay>();
  replay->sizes = recipe.sizes;
  replay->type = recipe.type;
  replay->is_fused = is_fused;
  replay->input = at::from_blob(const_cast<void*>(input.const_data_ptr()), input.sizes(), input.options());
  capture::ProgramRequest request{{recipe.result}, {{0, replay->input}}, {}, "PredictorOptions::capture = off"};
  if (is_fused) request.kernels = recipe.fused.kernels;
  replay->program = std::make_unique<capture::Program>(is_fused ? recipe.fused.recording : *recipe.recording, request);
  recipe.summary = replay->program->summary();
  recipe.summary.step = "forward";
  recipe.summary.inputs = input_text(input);
  recipe.summary.recorded = recipe.recording->actions.size();
  replay->kept = recipe.kept;
  recipe.count_former();
  recipe.replays.push_back(replay->count);
  return replay;
}

void ForwardCapture::keep(Lane& lane, std::unique_ptr<Replay> replay) const {
  while (!lane.replays.empty() && lane.replays.size() >= options_.max_shapes) {
    lane.replays.erase(std::ranges::min_element(lane.replays, {}, [](const auto& each) { return each->last_run; }));
  }
  replay->last_run = ++lane.runs;
  lane.replays.push_back(std::move(replay));
}

void ForwardCapture::refuse(Recipe& recipe, const std::string& reason) const {
  recipe.refusal =
      "forward of " + c10::str(recipe.type, " ", torch::IntArrayRef(recipe.sizes)) + " is not captured: " + reason;
  recipe.input.reset();
  recipe.first.reset();
  recipe.recording.reset();
  recipe.fused = {};
  recipe.kept.clear();
}

CapturedSteps ForwardCapture::report() const {
  const std::lock_guard lock(mutex_);
  CapturedSteps report;
  for (const auto& recipe : recipes_) {
    if (!recipe->refusal.empty()) report.refusals.push_back(recipe->refusal);
    if (!recipe->recording) continue;
    report.programs.push_back(recipe->summary);
    report.programs.back().replays = recipe->former_replays;
    for (const auto& count : recipe->replays) {
      report.programs.back().replays += count->load(std::memory_order_relaxed);
    }
  }
  return report;
}

}  // namespace troupe::inference
