#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/checkpoint_source.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/launch/command/tensor_values.hpp"

#include <limits>
#include <string>
#include <vector>

namespace troupe::command {
namespace {

/// What is wrong with the tensors of a file, a sentence each.
std::vector<std::string> problems_in(const CheckpointSource& source) {
  std::vector<std::string> problems;
  for (const auto& entry : source.entries()) {
    try {
      const auto tensor = source.read(entry);
      if (!entry.weight) continue;
      const auto bad = not_finite(tensor);
      if (bad.count == 0) continue;
      problems.push_back("tensor '" + shown(entry.name) + "' has " + std::to_string(bad.count) +
                         (bad.count == 1 ? " value that is" : " values that are") + " not finite, the first at " +
                         index_text(bad.first, tensor));
    } catch (const CheckpointError& error) {
      problems.emplace_back(error.what());
    }
  }
  return problems;
}

bool verify(const std::string& path, const Screen& screen) {
  std::vector<std::string> problems;
  std::string good;
  try {
    const CheckpointSource source(path);
    std::size_t compared = 0;
    problems = source.damaged_members(compared);
    for (auto& problem : problems_in(source)) problems.push_back(std::move(problem));
    const auto count = source.entries().size();
    good = std::to_string(count) + (count == 1 ? " tensor" : " tensors") +
           (source.is_checkpoint() || compared > 0 ? ", all checksums hold"
            : source.is_pth()                      ? "; it was saved without checksums"
                                                   : "; it is not of Troupe and has no checksums");
  } catch (const UsageError& error) {
    problems.emplace_back(error.what());
  }
  const auto name = single_line(path);
  std::string out;
  for (const auto& problem : problems) out += name + ": " + screen.styled("bad", Style::bad) + ": " + problem + "\n";
  if (problems.empty()) out = name + ": " + screen.styled("good", Style::good) + ": " + good + "\n";
  screen.print(out);
  return problems.empty();
}

}  // namespace

Command checkpoint_verify_command() {
  return {.name = "checkpoint verify",
          .summary = "check structure, checksums, and that weights are finite",
          .arguments = {"FILE...", 1, std::numeric_limits<std::size_t>::max(), Completion::weights},
          .text =
              "Reads each file whole: its structure, the checksum of the metadata and of each tensor, and whether all\n"
              "weights are finite. Says which tensor or byte is damaged. Ends with 1 if anything is wrong. Weights of\n"
              "other programs are checked too, as far as they have checksums: files of torch.save have one for each\n"
              "member of their archive.",
          .examples = {{"runs/digits/version_0/checkpoints/*.safetensors", "all checkpoints of a run"}},
          .options = {},
          .values = {},
          .letters = {},
          .run = [](const auto& arguments, const Screen& screen) {
            bool all_good = true;
            for (const auto& path : arguments) all_good = verify(path, screen) && all_good;
            return all_good ? succeeded : failed;
          }};
}

}  // namespace troupe::command
