#include "troupe/runtime/collectives/roll_call.hpp"

#include <nlohmann/json.hpp>

#include <utility>

namespace troupe {

RollCall::RollCall(int64_t rank, int64_t size, Announce announce)
    : rank_(rank), size_(size), announce_(std::move(announce)) {}

void RollCall::set_presence(std::function<std::string()> says) {
  const std::lock_guard lock(mutex_);
  says_ = std::move(says);
}

std::string RollCall::own_answer() {
  const std::lock_guard lock(mutex_);
  return says_ ? says_() : std::string();
}

bool RollCall::hear(const std::string& message) {
  const auto told = nlohmann::json::parse(message, nullptr, /*allow_exceptions=*/false);
  if (!told.is_object() || !told.contains("roll_call")) return false;
  const auto id = told.value("id", int64_t{-1}), from = told.value("from", int64_t{-1});
  if (told["roll_call"] == "who is there") {
    const nlohmann::json answer = {
        {"roll_call", "here"}, {"id", id}, {"from", rank_}, {"to", from}, {"says", own_answer()}};
    announce_(answer.dump());
  } else if (told.value("to", int64_t{-1}) == rank_) {
    const std::lock_guard lock(mutex_);
    if (const auto question = open_.find(id); question != open_.end()) {
      question->second[from] = told.value("says", "");
      answered_.notify_all();
    }
  }
  return true;
}

std::vector<std::optional<std::string>> RollCall::ask(std::chrono::milliseconds patience) {
  std::vector<std::optional<std::string>> answers(static_cast<std::size_t>(size_));
  answers[static_cast<std::size_t>(rank_)] = own_answer();
  std::unique_lock lock(mutex_);
  const int64_t id = next_id_++;
  auto& heard = open_[id];
  lock.unlock();
  announce_(nlohmann::json{{"roll_call", "who is there"}, {"id", id}, {"from", rank_}}.dump());
  lock.lock();
  answered_.wait_for(lock, patience, [&] { return static_cast<int64_t>(heard.size()) >= size_ - 1; });
  for (auto& [from, says] : heard) {
    if (from >= 0 && from < size_) answers[static_cast<std::size_t>(from)] = std::move(says);
  }
  open_.erase(id);
  return answers;
}

}  // namespace troupe
