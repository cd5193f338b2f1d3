#include "troupe/actors/checkpointer.hpp"

#include "troupe/actors/messages.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <memory>
#include <set>
#include <system_error>

namespace troupe::cast {

namespace {

// `tidied`: folders in which files of killed runs were looked for.
std::vector<std::filesystem::path> save(const SaveSnapshot& message, std::set<std::filesystem::path>& tidied) {
  std::vector<std::filesystem::path> paths;
  for (const auto& request : message.requests) {
    if (tidied.insert(request.path.parent_path()).second) remove_abandoned_files(request.path.parent_path());
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
  const auto tidied = std::make_shared<std::set<std::filesystem::path>>();
  return {
      [self, coordinator, tidied](const SaveSnapshot& message) {
        try {
          tell(self, coordinator, Saved{save(message, *tidied)});
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
