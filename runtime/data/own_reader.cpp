#include "troupe/runtime/data/own_reader.hpp"

#include "troupe/base/failure.hpp"

#include <utility>

namespace troupe {

DataLoader own_reader(const DataLoader& loader, const std::string& option) {
  if (!loader.stream()) return loader;
  auto replicated = loader.stream()->replicate();
  if (!replicated) {
    throw UsageError("a stream (IterableDataset) is read by one device, and " + option +
                     " is above 1: override its replicate() so that each device gets a stream of its own");
  }
  return {std::move(replicated), loader.options()};
}

}  // namespace troupe
