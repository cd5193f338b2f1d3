// Files of torch.save: .pth, .pt and Lightning's .ckpt.
#pragma once

#include "troupe/runtime/checkpoint/safetensors.hpp"
#include "troupe/runtime/weights/pth_value.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

struct PthOptions {
  /// Map the file into memory in place of reading it. A write to a tensor then changes its memory and not the file.
  bool mmap = true;
  /// Refuse more bytes than this from members that another program compressed, and from one tensor that repeats its
  /// elements (`expand`): a small file may stand for a huge one.
  int64_t most_bytes = int64_t{1} << 33;
};

/// Reads what torch.save wrote since PyTorch 1.6 (https://docs.pytorch.org/docs/stable/notes/serialization.html):
///
///     const auto file = read_pth("checkpoint.pth");
///     const int64_t epoch = file.find("epoch")->integer();
///     for (const auto& [name, tensor] : tensors_of(*file.find("state_dict"))) ...
///
/// Nothing in the file is run. It may hold tensors of every type and view, nn.Parameters, numbers, bools, strings,
/// bytes, None, lists, tuples, sets, dictionaries, OrderedDicts (whose `_metadata` are dropped) and Counters; whatever
/// else it names is refused by that name, as are quantized, sparse, nested and meta tensors. Tensors are mapped: pages
/// are read when they are used, and each keeps the map alive (mapped_file.hpp says what the file must not do
/// meanwhile). As in PyTorch with mmap=True no checksum of them is compared.
///
/// Throws UsageError naming the file and what is wrong: files of PyTorch before 1.6 and TorchScript (with what to do),
/// big-endian ones, what is damaged or cut off, tensors that do not lie in their storage, bools that are neither 0
/// nor 1.
PthValue read_pth(const std::filesystem::path& path, const PthOptions& options = {});

/// Every tensor in `value` by the way to it, with dots: "state_dict.layer.weight", "optimizer.state.0.exp_avg". Lists
/// and tuples count from 0; a key that is no text gives what Python's str() makes of it: "1.5", "None", "(1, 'a')".
/// Throws UsageError for two tensors of one name, and for what is nested deeper than 100 levels.
NamedTensors tensors_of(const PthValue& value);

/// The weights in a file, by the names that they have in their module. `key` says where they are if the file has more:
/// "state_dict", "ema.model". Without one it is the only dictionary in the file's that holds tensors (state_dict of
/// Lightning's .ckpt, model, module, model_state_dict), or the file's own if none does. Values that are no tensors are
/// passed over. Throws UsageError if several dictionaries hold tensors, naming them, and for a file without tensors.
NamedTensors pth_weights(const std::filesystem::path& path, const std::string& key = {},
                         const PthOptions& options = {});

/// The key of `file` at which pth_weights finds the weights if it is given none; nothing if the file itself is their
/// dictionary. Throws UsageError if several dictionaries hold tensors, naming them.
std::optional<std::string> pth_weights_key(const PthValue& file);

struct PthChecksums {
  std::size_t compared = 0;          ///< members that have a checksum
  std::vector<std::string> damaged;  ///< what is wrong, a sentence each
};

/// Compares the bytes of each member that is stored as it is with the CRC32 that it was saved with; read_pth does so
/// for those that are packed. torch.save leaves checksums out after torch.serialization.set_crc32_options(False): such
/// members are passed over. Throws UsageError for what is no archive or is cut off.
PthChecksums compare_pth_checksums(const std::filesystem::path& path);

/// Whether the file begins as one of torch.save does: with a zip archive, or the pickle of old ones.
bool is_pth(const std::filesystem::path& path);

}  // namespace troupe
