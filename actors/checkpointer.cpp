#include "troupe/actors/checkpointer.hpp"

#include "troupe/actors/messages.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <system_error>

namespace troupe::cast {

namespace {

std::vector<std::filesystem::path> save(const SaveSnapshot& message) {
  std::vector<std::filesystem::path> paths;
  for (const auto& request : message.requests) {
    write_checkpoint(*message.snapshot, request.path);
    paths.push_back(request.path);
    for (const auto& old : request.remove) {
      std::error_code ignored;  // gone already, or kept by the user: both are fine
      std::filesystem::remove(old, ignored);
    }
  }
  return paths;
}

caf::behavior checkpointer(caf::event_based_actor* self, const ActorRef& coordinator) {
  return {
      [self, coordinator](const SaveSnapshot& message) {
        try {
          tell(self, coordinator, Saved{save(message)});
        } catch (const std::exception& error) {
          Failure failure;
          failure.hook = "checkpointer";
          failure.message = error.what();
          tell(self, coordinator, Failed{std::move(failure)});
        }
      },
      [self, coordinator](Drain) {
        tell(self, coordinator, Drained{});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_checkpointer(caf::actor_system& system, ActorRef coordinator) {
  return spawn_threaded(system, checkpointer, std::move(coordinator));
}

}  // namespace troupe::cast
