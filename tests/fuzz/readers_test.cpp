// Mutated files: a stranger's checkpoint, table, dataset or config file may be refused, and nothing else.
//
// TROUPE_FUZZ_SECONDS makes each target run that long in place of a fixed number of rounds, and TROUPE_FUZZ_SEED gives
// other mutations. The mutations are blind; what they find best are sizes and offsets that do not fit.
#include "tests/fuzz/targets.hpp"
#include "tests/support/file_content.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

namespace troupe {
namespace {

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string mutated(std::string bytes) {
    for (std::size_t count = 1 + below(4); count > 0; --count) mutate(bytes);
    return bytes;
  }
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

 private:
  void mutate(std::string& bytes) {
    static const std::vector<std::string> odd = {"-1",
                                                 "0",
                                                 "9223372036854775807",
                                                 "18446744073709551615",
                                                 "1e999",
                                                 "nan",
                                                 "null",
                                                 "{}",
                                                 "[]",
                                                 "\"\"",
                                                 std::string("\0\0\0\0\0\0\0\0", 8),
                                                 "\xff\xff\xff\xff\xff\xff\xff\x7f",
                                                 "\xc3\x28",
                                                 "[[[[[[[[",
                                                 "data_offsets",
                                                 "../../etc/passwd",
                                                 "F64",
                                                 "BOOL",
                                                 "\r\n",
                                                 "\"\"\"",
                                                 "model.",
                                                 "__metadata__"};
    const std::size_t at = below(bytes.size() + 1), length = below(std::min<std::size_t>(bytes.size() - at, 40) + 1);
    switch (below(8)) {
      case 0: bytes.insert(at, 1, static_cast<char>(random_())); break;
      case 1: bytes.erase(at, length); break;
      case 2: bytes.insert(at, bytes.substr(at, length)); break;
      case 3: bytes.replace(at, length, odd[below(odd.size())]); break;
      case 4: bytes.resize(at); break;
      case 5: bytes.append(1 + below(16), static_cast<char>(random_())); break;
      case 6:  // a digit becomes another one
        for (std::size_t i = 0; i < bytes.size(); ++i) {
          char& c = bytes[(at + i) % bytes.size()];
          if (c < '0' || c > '9') continue;
          c = static_cast<char>('0' + below(10));
          break;
        }
        break;
      default:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
    }
  }

  std::mt19937_64 random_;
};

uint64_t number_in(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe)
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(Readers, RefuseWhatIsDamagedAndNothingElse) {
  using Clock = std::chrono::steady_clock;
  const TempDir dir;
  const auto seconds = number_in("TROUPE_FUZZ_SECONDS", 0);
  const auto seed = number_in("TROUPE_FUZZ_SEED", 1);
  for (const auto& target : fuzz::targets(dir)) {
    for (const auto& valid : target.seeds) EXPECT_NO_THROW(target.read(valid)) << target.name;
    Mutator mutator(seed);
    const auto end = Clock::now() + std::chrono::seconds(seconds);
    int64_t rounds = 0, refused = 0;
    for (; seconds > 0 ? Clock::now() < end : rounds < 1500; ++rounds) {
      const auto bytes = mutator.mutated(target.seeds[mutator.below(target.seeds.size())]);
      try {
        target.read(bytes);
      } catch (const UsageError&) {
        ++refused;
      } catch (const FileError&) {
        ++refused;
      } catch (const std::exception& error) {
        put("finding.bin", bytes);
        FAIL() << target.name << ": round " << rounds << " threw " << typeid(error).name() << ": " << error.what()
               << " (the bytes are in finding.bin)";
      }
    }
    EXPECT_GT(refused, rounds / 10) << target.name;
    if (seconds > 0) std::cout << target.name << ": " << rounds << " rounds, " << refused << " refused" << std::endl;
  }
}

// Files by hand, which are called what is to become of them, and what libFuzzer has found worth keeping (fuzz.sh).
TEST(Readers, TakeTheCorpusWithoutAFinding) {
  const TempDir dir;
  for (const auto& target : fuzz::targets(dir)) {
    int64_t inputs = 0;
    const auto folder = std::filesystem::path(TROUPE_SOURCE_DIR) / "tests/fuzz/corpus" / fuzz::corpus_name(target);
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      ++inputs;
      std::string refusal;
      try {
        target.read(content_of(entry.path()));
      } catch (const UsageError& error) {
        refusal = error.what();
      } catch (const FileError& error) {
        refusal = error.what();
      } catch (const std::exception& error) {
        ADD_FAILURE() << entry.path() << " threw " << typeid(error).name() << ": " << error.what();
      }
      const auto name = entry.path().filename().string();
      if (name.starts_with("valid_")) {
        EXPECT_EQ(refusal, "") << entry.path();
      } else if (name.starts_with("refused_")) {
        EXPECT_NE(refusal, "") << entry.path();
      }
    }
    EXPECT_GE(inputs, 3) << target.name;
  }
}

}  // namespace
}  // namespace troupe
