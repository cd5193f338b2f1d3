// Python's pickles, as far as they hold data.
#pragma once

#include "troupe/runtime/weights/pickle_value.hpp"

#include <cstddef>
#include <span>
#include <string>

namespace troupe {

/// What a pickle may name besides data. Each throws UsageError, which says why, for what it does not know.
class PickleObjects {
 public:
  virtual ~PickleObjects() = default;
  /// A class or a function by its name.
  virtual PickleValue global(const std::string& module, const std::string& name) = 0;
  /// What a call of it makes.
  virtual PickleValue call(const PickleNode& global, const PickleValue& arguments) = 0;
  /// What is kept outside of the pickle.
  virtual PickleValue persistent(const PickleValue& id) = 0;
};

/// Reads one pickle (https://docs.python.org/3/library/pickletools.html) with the opcodes that picklers of protocol 2
/// to 5 write for numbers, bools, strings, bytes, None, lists, tuples, sets and dictionaries. Everything else goes to
/// `objects`, which knows all there is; the reader itself runs and imports nothing. Bytes behind the pickle's end are
/// not looked at.
///
/// Memory grows with the opcodes that are there, by about 100 bytes for each, and not with the counts and indices that
/// they give. Nothing recurses. Throws UsageError with `source` and the byte in front: for an opcode that is none of
/// those (by its name), what `objects` refuses, and what is cut off or damaged.
PickleValue read_pickle(std::span<const std::byte> bytes, const std::string& source, PickleArena& arena,
                        PickleObjects& objects);

}  // namespace troupe
