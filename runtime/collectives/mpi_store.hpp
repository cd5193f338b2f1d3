// c10d's key-value store over MPI: how NCCL's communicators find each other without a socket of ours that listens.
#pragma once

#include "troupe/runtime/collectives/mpi_world.hpp"

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// The values are kept by rank 0, where a thread answers the others; it sleeps between requests (up to 10 ms where none
/// came for a while), so that the store is meant for setting up, not for many small messages. All processes make theirs
/// in the same order as their backends, and rank 0 keeps its own for as long as others use theirs. Any thread may call.
/// What a key that never comes is waited for, and an answer, ends with CollectiveTimeout after getTimeout().
class MpiStore : public c10d::Store {
 public:
  explicit MpiStore(MpiWorld& world, std::chrono::milliseconds timeout = kDefaultTimeout);
  /// On rank 0 it ends the thread.
  ~MpiStore() override;

  using c10d::Store::compareSet;
  using c10d::Store::set;
  c10::intrusive_ptr<c10d::Store> clone() override;
  void set(const std::string& key, const std::vector<uint8_t>& value) override;
  std::vector<uint8_t> compareSet(const std::string& key, const std::vector<uint8_t>& current,
                                  const std::vector<uint8_t>& value) override;
  std::vector<uint8_t> get(const std::string& key) override;
  int64_t add(const std::string& key, int64_t value) override;
  bool deleteKey(const std::string& key) override;
  bool check(const std::vector<std::string>& keys) override;
  int64_t getNumKeys() override;
  void wait(const std::vector<std::string>& keys) override;
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override;

 private:
  class Channel;
  explicit MpiStore(std::shared_ptr<Channel> channel, std::chrono::milliseconds timeout);

  std::shared_ptr<Channel> channel_;  // shared by clones
};

}  // namespace troupe
