// The readers under libFuzzer, which looks for inputs that reach code that none before has reached. The environment
// variable TROUPE_FUZZ_TARGET names the reader; fuzz.sh runs all of them.
#include "tests/fuzz/targets.hpp"
#include "tests/support/file_content.hpp"

#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace troupe;
  static const TempDir dir;
  static const auto all = fuzz::targets(dir);
  static const fuzz::Target* target = [] {
    const char* wanted = std::getenv("TROUPE_FUZZ_TARGET");
    for (const auto& each : all) {
      if (!wanted || each.name != wanted) continue;
      const char* folder = std::getenv("TROUPE_FUZZ_SEEDS");  // where to leave the valid inputs
      for (std::size_t i = 0; folder && i < each.seeds.size(); ++i) {
        put(std::filesystem::path(folder) / ("seed_" + std::to_string(i)), each.seeds[i]);
      }
      return &each;
    }
    std::fprintf(stderr, "TROUPE_FUZZ_TARGET is one of:");
    for (const auto& each : all) std::fprintf(stderr, " '%s'", each.name.c_str());
    std::fprintf(stderr, "\n");
    std::exit(2);
  }();
  try {
    target->read({reinterpret_cast<const char*>(data), size});
  } catch (const UsageError&) {
  } catch (const FileError&) {
  }
  return 0;
}
