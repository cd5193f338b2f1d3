#include "troupe/runtime/collectives/store_backend.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/reduce_kernel.hpp"

#include <cstring>
#include <utility>

namespace troupe {
namespace {

using Bytes = std::vector<uint8_t>;

// One rank's view of the store; `operation` counts.
class Exchange {
 public:
  Exchange(c10::intrusive_ptr<c10d::Store> store, int rank, int size)
      : store_(std::move(store)), rank_(rank), size_(size) {}

  void carry_out(const CollectiveCall& call) {
    ++operation_;
    switch (call.kind) {
      case Collective::broadcast:
        if (rank_ == call.root) give(call.input);
        take(call.root, call.output);
        break;
      case Collective::all_gather: all_gather(call); break;
      default: reduce(call);
    }
    // Whoever comes last has seen that nobody needs the keys any more.
    if (store_->add(key("left"), 1) < size_) return;
    for (int rank = 0; rank < size_; ++rank) store_->deleteKey(key(std::to_string(rank)));
    store_->deleteKey(key("left"));
  }

 private:
  std::string key(const std::string& name) const { return "troupe/" + std::to_string(operation_) + "/" + name; }

  void give(const at::Tensor& tensor) {
    const auto* const first = reinterpret_cast<const uint8_t*>(memory_of(tensor));
    store_->set(key(std::to_string(rank_)), Bytes(first, first + tensor.nbytes()));
  }

  Bytes bytes_of(int rank, std::size_t size) {
    auto bytes = store_->get(key(std::to_string(rank)));
    if (bytes.size() != size) {
      throw CollectiveError("the ranks call different operations: rank " + std::to_string(rank) + " gives " +
                            std::to_string(bytes.size()) + " bytes, and rank " + std::to_string(rank_) + " expects " +
                            std::to_string(size));
    }
    return bytes;
  }

  void take(int rank, const at::Tensor& tensor) {
    if (rank == rank_ || tensor.nbytes() == 0) return;
    const auto bytes = bytes_of(rank, tensor.nbytes());
    std::memcpy(memory_of(tensor), bytes.data(), bytes.size());
  }

  void all_gather(const CollectiveCall& call) {
    give(call.input);
    const auto flat = call.output.view({-1});
    int64_t offset = 0;
    for (int rank = 0; rank < size_; ++rank) {
      const auto part = flat.narrow(0, offset, call.counts[static_cast<std::size_t>(rank)]);
      if (rank == rank_ && memory_of(part) != memory_of(call.input)) part.copy_(call.input.view({-1}));
      take(rank, part);
      offset += part.numel();
    }
  }

  // All-reduce, reduce-scatter and barrier: everybody gives, everybody takes all.
  void reduce(const CollectiveCall& call) {
    const std::size_t size = call.input.defined() ? call.input.nbytes() : 0;
    if (call.input.defined()) {
      give(call.input);
    } else {
      store_->set(key(std::to_string(rank_)), Bytes());
    }
    std::vector<Bytes> parts;
    std::vector<const void*> sources;
    const std::size_t offset =
        call.kind == Collective::reduce_scatter ? static_cast<std::size_t>(rank_) * call.output.nbytes() : 0;
    for (int rank = 0; rank < size_; ++rank) {
      parts.push_back(bytes_of(rank, size));
      sources.push_back(parts.back().data() + offset);
    }
    if (call.kind == Collective::barrier) return;
    reduce_elements(call.input.scalar_type(), call.op, sources, memory_of(call.output), call.output.numel());
  }

  const c10::intrusive_ptr<c10d::Store> store_;
  const int rank_;
  const int size_;
  uint64_t operation_ = 0;
};

std::shared_ptr<Exchange> make_exchange(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                                        const CollectiveOptions& options) {
  if (rank < 0 || rank >= size) {
    throw UsageError("there is no rank " + std::to_string(rank) + " among " + std::to_string(size));
  }
  // The store's own waits must not outlast the operations'.
  store->setTimeout(options.timeout);
  return std::make_shared<Exchange>(std::move(store), rank, size);
}

}  // namespace

StoreBackend::StoreBackend(c10::intrusive_ptr<c10d::Store> store, int rank, int size, CollectiveOptions options)
    : ThreadedBackend(rank, size, "store", options,
                      [exchange = make_exchange(std::move(store), rank, size, options)](const CollectiveCall& call) {
                        exchange->carry_out(call);
                      }) {}

}  // namespace troupe
