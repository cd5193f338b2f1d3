#include "troupe/runtime/profile/lane.hpp"

#include <algorithm>
#include <utility>

namespace troupe {

std::string_view to_string(SpanKind kind) {
  switch (kind) {
    case SpanKind::message: return "message";
    case SpanKind::batch: return "batch";
    case SpanKind::hook: return "hook";
    case SpanKind::part: return "part";
    case SpanKind::scope: return "scope";
    case SpanKind::autograd: return "autograd";
    case SpanKind::op: return "operator";
  }
  return "";
}

Lane::Lane(std::string name, int64_t number, SpanBudget* budget)
    : name_(std::move(name)), number_(number), budget_(budget) {}

Lane::~Lane() {
  for (Chunk* chunk = first_; chunk;) delete std::exchange(chunk, chunk->next.load());
}

void Lane::begin(SpanKind kind, std::string_view name, const void* id, int64_t number) {
  push(kind, name, id, number);
}

void Lane::end(const void* id) noexcept {
  const auto found = std::find_if(open_.rbegin(), open_.rend(), [&](const Open& each) { return each.id == id; });
  if (found == open_.rend()) return;
  const auto depth = static_cast<std::size_t>(open_.rend() - found);  // with the one that is meant
  const int64_t now = nanoseconds_now();
  while (open_.size() >= depth) pop(now);
}

void Lane::follow(SpanKind kind, std::string_view name) {
  if (!open_.empty() && !open_.back().id) pop(nanoseconds_now());
  push(kind, name, nullptr, -1);
}

void Lane::note_allocation(int64_t bytes) {
  if (open_.empty()) return;
  SpanSums& sums = *open_.back().what;
  sums.allocated = sums.allocated + bytes;
}

void Lane::push(SpanKind kind, std::string_view name, const void* id, int64_t number) {
  SpanSums& sums = sums_of(kind, name);
  ++sums.open_;
  open_.push_back({&sums, id, nanoseconds_now(), number, 0});
}

void Lane::pop(int64_t now) {
  const Open ended = open_.back();
  open_.pop_back();
  const int64_t duration = now - ended.begin;
  SpanSums& sums = *ended.what;
  sums.calls = sums.calls + 1;
  sums.self = sums.self + std::max<int64_t>(0, duration - ended.within);
  if (--sums.open_ == 0) sums.total = sums.total + duration;
  if (!open_.empty()) open_.back().within += duration;
  if (budget_) keep({&sums, ended.begin, duration, ended.number});
}

void Lane::keep(const Span& span) {
  if (!last_ || last_->used.load(std::memory_order_relaxed) == chunk_size) {
    if (!budget_->take(chunk_size)) return;
    auto* chunk = new Chunk;
    (last_ ? last_->next : first_).store(chunk, std::memory_order_release);
    last_ = chunk;
  }
  const std::size_t at = last_->used.load(std::memory_order_relaxed);
  last_->spans[at] = span;
  last_->used.store(at + 1, std::memory_order_release);
}

SpanSums& Lane::sums_of(SpanKind kind, std::string_view name) {
  auto found = sums_.find(Key{kind, name});
  if (found != sums_.end()) return *found->second;
  if (kind == SpanKind::scope && name != "other scopes" && user_names_++ >= most_names) {
    return sums_of(kind, "other scopes");
  }
  auto made = std::make_unique<SpanSums>(std::string(name), kind);
  made->next_ = newest_.load(std::memory_order_relaxed);
  SpanSums& sums = *made;
  sums_.emplace(Key{kind, sums.name}, std::move(made));
  newest_.store(&sums, std::memory_order_release);
  return sums;
}

void Lane::for_each_sum(const std::function<void(const SpanSums&)>& visit) const {
  for (const auto* each = newest_.load(std::memory_order_acquire); each; each = each->next_) visit(*each);
}

std::vector<Span> Lane::spans() const {
  std::vector<Span> all;
  for (const Chunk* chunk = first_.load(std::memory_order_acquire); chunk;
       chunk = chunk->next.load(std::memory_order_acquire)) {
    const std::size_t used = chunk->used.load(std::memory_order_acquire);
    all.insert(all.end(), chunk->spans.begin(), chunk->spans.begin() + static_cast<std::ptrdiff_t>(used));
  }
  return all;
}

}  // namespace troupe
