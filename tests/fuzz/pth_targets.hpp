// Readers of torch.save's files.
#pragma once

#include "tests/fuzz/array_targets.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/load_weights.hpp"
#include "troupe/runtime/weights/pth_file.hpp"
#include "troupe/runtime/weights/torch_objects.hpp"

#include <torch/torch.h>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace troupe::fuzz {

/// An archive of stored members.
inline std::string stored_zip(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out, list;
  for (const auto& [name, content] : members) {
    const auto common = std::string(12, '\0') + little_endian_number(content.size(), 4) +
                        little_endian_number(content.size(), 4) + little_endian_number(name.size(), 2);
    list +=
        "PK\1\2" + std::string(4, '\0') + common + std::string(12, '\0') + little_endian_number(out.size(), 4) + name;
    out += "PK\3\4" + std::string(2, '\0') + common + std::string(2, '\0') + name + content;
  }
  return out + list + "PK\5\6" + std::string(6, '\0') + little_endian_number(members.size(), 2) +
         little_endian_number(list.size(), 4) + little_endian_number(out.size(), 4) + std::string(2, '\0');
}

inline std::string pickled_text(const std::string& text) {
  return "X" + little_endian_number(text.size(), 4) + text;
}

/// {"w": a tensor of four floats and its memory at "0"} as an OrderedDict with `_metadata`, and values of other kinds.
inline std::string pickled_state() {
  const std::string zero("K\0", 2);
  const auto storage =
      "(" + pickled_text("storage") + "ctorch\nFloatStorage\n" + pickled_text("0") + pickled_text("cpu") + "K\x04tQ";
  const auto tensor = "ctorch._utils\n_rebuild_tensor_v2\nq\x01(" + storage + zero +
                      "K\x02K\x02\x86K\x02K\x01\x86\x89" + "ccollections\nOrderedDict\nq\x02)RtR";
  const auto set = std::string("c__builtin__\nset\n](NNe\x85R");
  const auto bytes = "c_codecs\nencode\n" + pickled_text("x\xc3\xbf") + pickled_text("latin1") + "\x86R";
  return "\x80\x02" + std::string("ccollections\nOrderedDict\n)R(") + pickled_text("w") + tensor + pickled_text("l") +
         "](K\x01M\x01\x02J\xff\xff\xff\xffG?\xf8" + std::string(6, '\0') + "\x8a\x01\x05\x88\x89" + "e" +
         pickled_text("s") + set + pickled_text("b") + bytes + "u}" + pickled_text("_metadata") + "}sb.";
}

inline void read_whole_pth(const std::filesystem::path& path) {
  const auto file = read_pth(path, {.most_bytes = 1 << 20});
  for (const auto& [name, tensor] : tensors_of(file)) {
    if (tensor.numel() > 10'000) continue;
    (void)tensor.resolve_conj().resolve_neg().contiguous();
  }
  torch::nn::Linear layer(2, 2);
  (void)load_weights(*layer, path, {.rename = {{"^w$", "weight"}}, .strict = false, .convert_dtype = true});
}

inline void read_one_pickle(const std::string& bytes) {
  const std::vector<float> numbers = {1, 2, 3, 4};
  const std::vector<ZipMember> members{
      {.name = "x/data/0", .size = 16, .content = std::as_bytes(std::span(numbers.data(), numbers.size()))}};
  PthStorages storages(members, "x/data/", nullptr, 1 << 20);
  PickleArena arena;
  TorchObjects objects(storages, arena, 1 << 20);
  (void)read_pickle(std::as_bytes(std::span(bytes.data(), bytes.size())), "x", arena, objects);
}

inline void add_pth_targets(std::vector<Target>& all, const TempDir& dir) {
  const std::string numbers(16, '\0');
  const auto whole = stored_zip({{"x/data.pkl", pickled_state()}, {"x/byteorder", "little"}, {"x/data/0", numbers}});
  all.push_back({"pth", {whole}, [path = dir / "x.pth"](const std::string& bytes) {
                   put(path, bytes);
                   read_whole_pth(path);
                 }});
  all.push_back({"pickle", {pickled_state()}, read_one_pickle});
}

}  // namespace troupe::fuzz
