#include "troupe/actors/checkpointer.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/base/exception_text.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>

namespace troupe::cast {

namespace {

struct CheckpointerState {
  static constexpr const char* name = "checkpointer";

  ActorRef coordinator;
  std::shared_ptr<Pulse> pulse;
  std::set<std::filesystem::path> tidied;  // folders in which files of killed runs were looked for
};

using CheckpointerSelf = caf::stateful_actor<CheckpointerState>;

bool holds_finite_numbers(const torch::Tensor& tensor) {
  if (tensor.is_complex()) return holds_finite_numbers(torch::view_as_real(tensor));
  if (!tensor.is_floating_point() || tensor.numel() == 0) return true;
  // Numbers of one byte are for storing alone.
  const auto [lowest, highest] = torch::aminmax(tensor.element_size() == 1 ? tensor.to(torch::kFloat32) : tensor);
  return std::isfinite(lowest.item<double>()) && std::isfinite(highest.item<double>());
}

// The first parameter or buffer with a number that is not finite; empty: all are.
std::string first_bad_weight(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const auto bare = name_in_model(name);
    if (bare && !holds_finite_numbers(tensor)) return std::string(*bare);
  }
  return "";
}

Saved save(CheckpointerState& state, const SaveSnapshot& message) {
  Saved saved;
  std::optional<std::string> bad;
  for (const auto& request : message.requests) {
    state.pulse->beat();
    const std::string problem = text_thrown_by([&] {
      if (request.must_be_finite && !bad) bad = first_bad_weight(*message.snapshot);
      if (request.must_be_finite && !bad->empty()) return;
      const auto folder = request.path.parent_path();
      if (state.tidied.insert(folder).second) remove_abandoned_files(folder);
      write_checkpoint(*message.snapshot, request.path);
    });
    if (!problem.empty()) {
      saved.missing.push_back({request.path, problem});
      continue;
    }
    if (request.must_be_finite && !bad->empty()) {
      saved.missing.push_back({request.path, *bad + " is not finite", /*is_refused=*/true});
      continue;
    }
    saved.paths.push_back(request.path);
    for (const auto& old : request.remove) {
      std::error_code ignored;  // gone already, or kept by the user: both are fine
      std::filesystem::remove(old, ignored);
    }
  }
  return saved;
}

caf::behavior checkpointer(CheckpointerSelf* self, const ActorRef& coordinator, const std::shared_ptr<Pulse>& pulse) {
  state_of(self).coordinator = coordinator;
  state_of(self).pulse = pulse;
  enter_thread(pulse);
  name_lane(pulse->who);
  end_with(self, coordinator);
  return Handlers{
      [self](SaveSnapshot& message) {
        auto& state = state_of(self);
        const Working working(*state.pulse);
        const auto began = std::chrono::steady_clock::now();
        Saved saved = save(state, message);
        saved.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        message.snapshot = nullptr;  // before the next one may be taken, into the same memory
        tell(self, state.coordinator, std::move(saved));
      },
      [self](Drain) {
        tell(self, state_of(self).coordinator, Drained{});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_checkpointer(caf::actor_system& system, ActorRef coordinator, std::shared_ptr<Pulse> pulse) {
  return spawn_threaded(system, checkpointer, std::move(coordinator), std::move(pulse));
}

}  // namespace troupe::cast
