#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/launch/command/checkpoint_source.hpp"
#include "troupe/launch/command/command.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/safetensors_index.hpp"
#include "troupe/runtime/checkpoint/sharded_safetensors.hpp"
#include "troupe/runtime/checkpoint/stored_dtype.hpp"
#include "troupe/runtime/weights/any_weights.hpp"
#include "troupe/runtime/weights/pth_writer.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

namespace troupe::command {

enum class StoredType { keep, bf16, fp16, fp32, fp64 };
TROUPE_CHOICES(StoredType, {keep, "keep"}, {bf16, "bf16"}, {fp16, "fp16"}, {fp32, "fp32"}, {fp64, "fp64"})

namespace {

namespace fs = std::filesystem;

constexpr uint64_t no_limit = std::numeric_limits<uint64_t>::max();

struct ConvertOptions {
  fs::path output = "";
  std::string shard_size = "";
  StoredType dtype = StoredType::keep;
  std::string key = "";
  bool checkpoint = false;
  bool force = false;
};
TROUPE_OPTIONS(ConvertOptions, (output, "file (*.safetensors, *.pth) or folder to write"),
               (shard_size, "bytes of tensors in a file, as 5GB or 500MB, with an index; empty: one file"),
               (dtype, "type of F64, F32, F16 and BF16 tensors"),
               (key, "dictionary of a file of torch.save that holds the weights, as ema.model, if it has several"),
               (checkpoint, "write a checkpoint of Troupe, with checksums"), (force, "replace what is there"))

std::optional<torch::ScalarType> scalar_type(StoredType type) {
  switch (type) {
    case StoredType::keep: return std::nullopt;
    case StoredType::bf16: return torch::kBFloat16;
    case StoredType::fp16: return torch::kFloat16;
    case StoredType::fp32: return torch::kFloat32;
    case StoredType::fp64: return torch::kFloat64;
  }
  return std::nullopt;
}

/// Units of huggingface_hub's: a GB is 10^9 bytes.
uint64_t bytes_in(const std::string& text) {
  if (text.empty()) return no_limit;
  constexpr std::array<std::pair<std::string_view, double>, 6> units = {
      {{"", 1}, {"b", 1}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  auto unit = small_letters(std::string(end, text.data() + text.size()));
  unit.erase(0, unit.find_first_not_of(' ') == unit.npos ? unit.size() : unit.find_first_not_of(' '));
  for (const auto& [name, factor] : units) {
    if (error != std::errc() || (unit != name && unit + "b" != name)) continue;
    const double bytes = number * factor;
    if (bytes >= 1 && bytes < 1e18) return static_cast<uint64_t>(bytes);
  }
  throw UsageError("--shard-size is '" + shown(text) + "'; give a number of bytes, or one of KB, MB, GB or TB: 5GB");
}

/// A folder, and the name of a model in it.
struct Target {
  fs::path folder;
  std::string name;
  fs::path pth = {};  ///< the file, if it is to be one of torch.save
};

bool has_ending(const fs::path& path, std::initializer_list<std::string_view> endings) {
  const auto ending = small_letters(path.extension().string());
  return std::ranges::find(endings, ending) != endings.end();
}

/// A folder of such a name would hardly be meant: "x.safetensor", "x.pht". One may be, with a slash at its end.
void check_ending(const fs::path& output) {
  const auto ending = small_letters(output.extension().string());
  for (const std::string_view known : {".safetensors", ".pth", ".bin"}) {
    const std::size_t most = known.size() > 6 ? 2 : 1;
    if (ending.empty() || edit_distance(ending, known) > most) continue;
    throw UsageError("'" + shown(output.string()) + "' would be a folder; did you mean *" + std::string(known) +
                     "? A slash at the end makes it one");
  }
}

Target target_of(const fs::path& output) {
  if (output.empty()) throw UsageError("troupe checkpoint convert needs the file or the folder to write: -o TARGET");
  std::error_code error;
  if (!fs::is_directory(output, error)) {
    if (has_ending(output, {".safetensors"})) {
      return {output.has_parent_path() ? output.parent_path() : fs::path("."), output.stem().string()};
    }
    if (names_pth(output)) return {{}, {}, output};
    if (has_ending(output, {".ckpt"})) {
      throw UsageError("cannot write '" + shown(output.string()) +
                       "': a .ckpt of Lightning has optimizers and loops beside the weights; name a *.pth, which " +
                       "load_state_dict takes in Python");
    }
    if (has_ending(output, {".json", ".npz", ".onnx", ".gguf", ".pt2", ".h5", ".pkl"})) {
      throw UsageError("cannot write '" + shown(output.string()) +
                       "': what is written is *.safetensors, *.pth or a folder");
    }
    check_ending(output);
  }
  return {output, "model"};
}

/// Whether writing to `target` would take the place of what `source` is read from.
void check_apart(const fs::path& source, const Target& target) {
  const auto found = find_weights(source).path;
  const auto model = target.folder / target.name;
  for (const auto& path : {fs::path(model.string() + ".safetensors"),
                           fs::path(model.string() + std::string(safetensors_index_ending)), target.pth}) {
    std::error_code error;
    if (!fs::equivalent(found, path, error)) continue;
    throw UsageError(shown(found.string()) + " is to be read and to be written; name another file behind -o");
  }
}

void check_free(const fs::path& path, const ConvertOptions& options) {
  std::error_code error;
  if (options.force || !fs::exists(fs::symlink_status(path, error))) return;
  throw UsageError("'" + shown(path.string()) + "' is there already; overwrite (--force) replaces it");
}

std::vector<fs::path> write_as_pth(const NamedTensors& weights, const Target& target, const ConvertOptions& options) {
  check_free(target.pth, options);
  write_pth(weights, target.pth, {.dtype = scalar_type(options.dtype)});
  return {target.pth};
}

std::vector<fs::path> write_as_checkpoint(const NamedTensors& weights, const Target& target,
                                          const ConvertOptions& options) {
  const auto path = target.folder / (target.name + std::string(checkpoint_extension));
  check_free(path, options);
  const auto dtype = scalar_type(options.dtype);
  Checkpoint checkpoint;
  for (const auto& [name, tensor] : weights) {
    checkpoint.tensors.emplace_back(name_in_checkpoint(name), tensor.to(dtype_to_store(tensor.scalar_type(), dtype)));
  }
  write_checkpoint(checkpoint, path);
  return {path};
}

std::vector<fs::path> write_as_safetensors(const NamedTensors& weights, const Target& target,
                                           const ConvertOptions& options) {
  return write_sharded_safetensors(weights, target.folder,
                                   {.max_shard_bytes = bytes_in(options.shard_size),
                                    .name = target.name,
                                    .dtype = scalar_type(options.dtype),
                                    .overwrite = options.force})
      .files;
}

void check_together(const Target& target, const ConvertOptions& options) {
  const bool is_pth = !target.pth.empty();
  if (options.checkpoint && is_pth) {
    throw UsageError("--checkpoint writes *.safetensors, and '" + shown(target.pth.string()) +
                     "' is a file of torch.save; leave --checkpoint out, or name a *.safetensors");
  }
  if (is_pth && !options.shard_size.empty()) {
    throw UsageError("--shard-size is for safetensors and their index, and '" + shown(target.pth.string()) +
                     "' is a file of torch.save; name a folder, or leave --shard-size out");
  }
  if (options.checkpoint && !options.shard_size.empty()) {
    throw UsageError("--checkpoint and --shard-size exclude each other: a checkpoint is one file");
  }
}

int convert(const fs::path& source, const ConvertOptions& options, const Screen& screen) {
  const auto target = target_of(options.output);
  (void)bytes_in(options.shard_size);
  check_together(target, options);
  check_apart(source, target);
  const auto weights = read_any_weights(source, options.key);
  if (!weights.unreadable.empty()) {
    const auto& [name, why] = *weights.unreadable.begin();
    throw CheckpointError(source, "tensor '" + shown(name) + "' " + why);
  }
  const auto files = !target.pth.empty()  ? write_as_pth(weights.tensors, target, options)
                     : options.checkpoint ? write_as_checkpoint(weights.tensors, target, options)
                                          : write_as_safetensors(weights.tensors, target, options);
  std::string out;
  for (const auto& file : files) out += file.lexically_normal().string() + "\n";
  screen.print(out);
  return succeeded;
}

}  // namespace

Command checkpoint_convert_command() {
  const auto options = std::make_shared<ConvertOptions>();
  auto refs = option_refs(*options);
  for (auto& ref : refs) {
    if (ref.name == "shard_size") ref.name = "shard-size";
  }
  return {.name = "checkpoint convert",
          .summary = "write the weights of a checkpoint or model in another form",
          .arguments = {"SOURCE -o TARGET", 1, 1, Completion::weights},
          .text =
              "Reads the weights of a checkpoint, a safetensors file, an index of several\n"
              "(model.safetensors.index.json), a file of torch.save (*.pth, *.pt, *.bin,\n"
              "*.ckpt) or a folder that has one of them, and writes them by the names that the\n"
              "model has for them: to one *.safetensors file, to several with an index, which\n"
              "Python, transformers and accelerate read, or to a *.pth, *.pt or *.bin, which\n"
              "torch.load reads with weights_only=True.\n"
              "Optimizers, progress and random states are left out. Nothing that is there is\n"
              "replaced without --force.",
          .examples = {{"runs/digits/version_0/checkpoints/last.safetensors -o digits.safetensors",
                        "weights alone, by the names of the module"},
                       {"big.safetensors -o big/ --shard-size 5GB --dtype bf16",
                        "a folder of files of at most 5 GB, in half the bytes"},
                       {"epoch3.ckpt -o ema.safetensors --key ema.model", "one of several sets of weights"},
                       {"last.safetensors -o digits.pth", "for model.load_state_dict(torch.load(path)) in Python"},
                       {"gpt2/ -o gpt2.safetensors --checkpoint", "a checkpoint of a folder of Hugging Face's"}},
          .options = std::move(refs),
          .values = {{"output", Completion::files}},
          .letters = {{'o', "output"}},
          .run = [options](const auto& arguments, const Screen& screen) {
            return convert(arguments[0], *options, screen);
          }};
}

}  // namespace troupe::command
