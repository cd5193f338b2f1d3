// What a thread or an actor did while it was profiled: how long each kind of work took, and the pieces one by one.
#pragma once

#include "troupe/runtime/process/pulse.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace troupe {

enum class SpanKind : unsigned char {
  message,   ///< that an actor handles
  batch,     ///< of training or an evaluation
  hook,      ///< of the module, callbacks and data module together
  scope,     ///< of the user's: profile("name")
  autograd,  ///< a node of the backward pass
  op,        ///< an operator of LibTorch's
};

/// "operator" for `op`; the others are called as they are spelled.
std::string_view to_string(SpanKind kind);

/// All spans of one name in a lane. The lane's thread writes, any may read.
struct SpanSums {
  SpanSums(std::string name_in, SpanKind kind_in) : name(std::move(name_in)), kind(kind_in) {}

  const std::string name;
  const SpanKind kind;
  Shared<int64_t> calls = 0;
  Shared<int64_t> total = 0;      ///< nanoseconds; of calls within each other the outermost count
  Shared<int64_t> self = 0;       ///< without spans within them
  Shared<int64_t> allocated = 0;  ///< bytes that they allocated themselves, given back or not

 private:
  friend class Lane;
  int64_t open_ = 0;
  const SpanSums* next_ = nullptr;
};

/// A piece of work that has ended.
struct Span {
  const SpanSums* what = nullptr;
  int64_t begin = 0, duration = 0;  ///< nanoseconds of the steady clock
  int64_t number = -1;              ///< of the batch; -1: it has none
};

/// How many spans all lanes of a profile may keep. Any thread may call.
class SpanBudget {
 public:
  explicit SpanBudget(int64_t spans) : left_(spans) {}
  /// False: there are none left, and nobody gets more from now on.
  bool take(int64_t spans) { return left_.fetch_sub(spans, std::memory_order_relaxed) >= spans; }
  bool is_used_up() const { return left_.load(std::memory_order_relaxed) <= 0; }

 private:
  std::atomic<int64_t> left_;
};

/// Written by one thread at a time, without locks; read by any at any time, which sees what has ended by then.
class Lane {
 public:
  /// `budget`: null: sums are kept, and no spans.
  Lane(std::string name, int64_t number, SpanBudget* budget);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// "worker 0", "loader".
  const std::string& name() const { return name_; }
  /// Counts from 1 in the order in which lanes were first used.
  int64_t number() const { return number_; }

  // --- The thread whose lane it is ---

  /// `id`: what the span is ended by.
  void begin(SpanKind kind, std::string_view name, const void* id, int64_t number = -1);
  /// What was begun within it and has not ended ends too. Does nothing if there is no such span.
  void end(const void* id) noexcept;
  /// One of several that follow each other: ends the one before, and ends with the span that both are in.
  void follow(SpanKind kind, std::string_view name);
  /// By the innermost open span.
  void note_allocation(int64_t bytes);

  // --- Any thread ---

  void for_each_sum(const std::function<void(const SpanSums&)>& visit) const;
  /// In the order of their ends. They stay as long as the lane does.
  std::vector<Span> spans() const;

 private:
  static constexpr std::size_t chunk_size = 1024;
  static constexpr std::size_t most_names = 1000;  // of the user's
  struct Chunk {
    std::array<Span, chunk_size> spans;
    std::atomic<std::size_t> used = 0;
    std::atomic<Chunk*> next = nullptr;
  };
  struct Open {
    SpanSums* what = nullptr;
    const void* id = nullptr;  // null: it was begun by follow()
    int64_t begin = 0, number = -1;
    int64_t within = 0;  // nanoseconds of the spans in it
  };
  struct Key {
    SpanKind kind;
    std::string_view name;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return std::hash<std::string_view>()(key.name) ^ static_cast<std::size_t>(key.kind);
    }
  };

  SpanSums& sums_of(SpanKind kind, std::string_view name);
  void push(SpanKind kind, std::string_view name, const void* id, int64_t number);
  void pop(int64_t now);
  void keep(const Span& span);

  const std::string name_;
  const int64_t number_;
  SpanBudget* budget_;
  std::vector<Open> open_;
  std::unordered_map<Key, std::unique_ptr<SpanSums>, Hash> sums_;  // the thread's
  std::size_t user_names_ = 0;
  std::atomic<const SpanSums*> newest_ = nullptr;  // the same for others, as a list
  std::atomic<Chunk*> first_ = nullptr;
  Chunk* last_ = nullptr;
};

}  // namespace troupe
