// Readers of arrays and tokens.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/data/arrays/npy.hpp"
#include "troupe/runtime/data/arrays/npz.hpp"
#include "troupe/runtime/data/tokens/token_dataset.hpp"

#include <torch/torch.h>
#include <zlib.h>

#include <span>
#include <string>
#include <vector>

namespace troupe::fuzz {

/// A number of an archive or a header.
inline std::string little_endian_number(uint64_t number, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i));
  return out;
}

inline std::string npy(const std::string& descr, const std::string& order, const std::string& shape,
                       const std::string& data) {
  auto text = "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  while (text.size() % 64 != 53) text += ' ';
  text += '\n';
  return std::string("\x93NUMPY\x01\x00", 8) + little_endian_number(text.size(), 2) + text + data;
}

/// An .npz of two members, the second one deflated.
inline std::string npz(const std::string& stored, const std::string& deflated) {
  std::string out, list;
  for (const bool is_deflated : {false, true}) {
    const auto& content = is_deflated ? deflated : stored;
    std::string packed = content;
    if (is_deflated) {
      uLongf size = compressBound(content.size());
      packed.resize(size);
      compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(content.data()),
               content.size());
      packed = packed.substr(2, size - 6);  // without zlib's frame
    }
    const std::string name = is_deflated ? "b.npy" : "a.npy";
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size()));
    const auto common = little_endian_number(0, 2) + little_endian_number(is_deflated ? 8 : 0, 2) +
                        little_endian_number(0, 4) + little_endian_number(crc, 4) +
                        little_endian_number(packed.size(), 4) + little_endian_number(content.size(), 4) +
                        little_endian_number(name.size(), 2) + little_endian_number(0, 2);
    list += "PK\1\2" + little_endian_number(20, 2) + little_endian_number(20, 2) + common + std::string(10, '\0') +
            little_endian_number(out.size(), 4) + name;
    out += "PK\3\4" + little_endian_number(20, 2) + common + name + packed;
  }
  return out + list + "PK\5\6" + std::string(4, '\0') + little_endian_number(2, 2) + little_endian_number(2, 2) +
         little_endian_number(list.size(), 4) + little_endian_number(out.size(), 4) + std::string(2, '\0');
}

inline void add_array_targets(std::vector<Target>& all, const TempDir& dir) {
  const auto use = [](const torch::Tensor& tensor) { (void)tensor.clone(); };
  const std::string eight = "\1\0\1\1\1\0\1\0", forty(40, '\3');
  const std::vector<std::string> arrays = {
      npy("|b1", "False", "(2, 4)", eight.substr(0, 1) + std::string("\0\1\1\1\0\1\0", 7)),
      npy("<f8", "True", "(5, 1)", forty), npy(">i4", "False", "(10,)", forty),
      npy("<c8", "False", "()", forty.substr(0, 8)), npy("<u2", "False", "(0, 7)", "")};
  all.push_back({"npy", arrays, [use](const std::string& bytes) {
                   use(read_npy(std::as_bytes(std::span(bytes.data(), bytes.size()))));
                 }});
  all.push_back({"npz",
                 {npz(arrays[0], arrays[1]), npz(arrays[2], arrays[4])},
                 [use, path = dir / "x.npz"](const std::string& bytes) {
                   put(path, bytes);
                   const auto file = read_npz(path, {.most_bytes = 1 << 20});
                   for (const auto& name : file.names()) use(file[name]);
                 }});
  std::string header = little_endian_number(20240520, 4) + little_endian_number(1, 4) + little_endian_number(20, 4);
  header.resize(1024);
  std::string llama = little_endian_number(20240801, 4) + little_endian_number(7, 4) + little_endian_number(10, 4);
  llama.resize(1024);
  std::string small;
  for (int i = 0; i < 10; ++i) small += little_endian_number(i, 4);
  all.push_back({"tokens", {header + forty, llama + small}, [path = dir / "x.bin"](const std::string& bytes) {
                   put(path, bytes);
                   TokenDataset data(
                       {path}, 3, {.stride = 1, .vocabulary = 60000, .documents = DocumentOptions{.end_of_text = 3}});
                   for (int64_t i = 0; i < data.size(); ++i) (void)data.get(i);
                 }});
}

}  // namespace troupe::fuzz
