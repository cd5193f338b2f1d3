// How the writer of a temporary file says that it lives: it holds a lock on it (flock).
//
// A process that ends, however it ends, leaves its locks behind, and all processes of one kernel see each other's: in
// other containers too, whose numbers of processes and names of hosts mean nothing to each other. Other machines see a
// lock on some network file systems and not on others, so that a lock that is free says nothing of their files.
#pragma once

#include <filesystem>
#include <string>

#include <sys/types.h>

namespace troupe {

/// A new file, open for writing with `flags` besides, that its writer holds a lock on until the descriptor and its
/// duplicates are closed. Where the file system has no locks, it is without one. Any thread may call. Throws FileError,
/// EEXIST where anything has that name, a link included, or where somebody takes the file for one without a writer.
int create_locked(const std::filesystem::path& path, int flags, mode_t mode);

/// Whether a file that is open for writing has a writer.
enum class Writer { holds_it, is_gone, cannot_be_told };

/// Takes the lock where nobody has it; it is given back when `descriptor` is closed.
Writer writer_of(int descriptor);

/// This machine since it was started, in hexadecimal digits: what shares a kernel has the same. Empty if the system
/// does not say.
const std::string& machine_id();

}  // namespace troupe
