#include "troupe/runtime/weights/pth_writer.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/data/files/zip_archive.hpp"
#include "troupe/runtime/weights/pickle_value.hpp"
#include "troupe/runtime/weights/pth_file.hpp"
#include "troupe/runtime/weights/torch_types.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// "file.w Float 2x3 1234": as read_pth.py prints a tensor.
std::string line_of_python(const std::string& name, const torch::Tensor& tensor) {
  const auto plain = tensor.resolve_conj().resolve_neg().contiguous();
  std::string sizes;
  for (const auto size : plain.sizes()) sizes += (sizes.empty() ? "" : "x") + std::to_string(size);
  const auto crc = plain.numel() == 0
                       ? 0
                       : crc32(0, static_cast<const Bytef*>(plain.const_data_ptr()), static_cast<uInt>(plain.nbytes()));
  return c10::str("file.", name, " ", tensor.scalar_type(), " ", sizes.empty() ? "-" : sizes, " ", crc, "\n");
}

std::string read_by_python(const std::filesystem::path& path) {
  return python_output("read_pth.py", "'" + path.string() + "' 2>/dev/null");
}

/// A disk with room for so many bytes.
class FullDisk : public FileSystem {
 public:
  explicit FullDisk(std::size_t room) : room_(room) {}
  std::unique_ptr<OutputFile> create(const std::filesystem::path& path) override {
    return std::make_unique<File>(real_file_system().create(path), room_);
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    real_file_system().rename(from, to);
  }
  void remove(const std::filesystem::path& path) override { real_file_system().remove(path); }
  void create_folders(const std::filesystem::path& folder) override { real_file_system().create_folders(folder); }
  void sync_folder(const std::filesystem::path& folder) override { real_file_system().sync_folder(folder); }

 private:
  class File : public OutputFile {
   public:
    File(std::unique_ptr<OutputFile> file, std::size_t& room)
        : OutputFile(file->path()), file_(std::move(file)), room_(room) {}
    void sync() override { file_->sync(); }
    void publish() override { file_->publish(); }
    void close() override { file_->close(); }

   private:
    std::size_t write_some(std::span<const std::byte> bytes) override {
      if (room_ == 0) throw FileError("write", path(), ENOSPC);
      const auto some = bytes.first(std::min(room_, bytes.size()));
      file_->write(some);
      room_ -= some.size();
      return some.size();
    }
    std::unique_ptr<OutputFile> file_;
    std::size_t& room_;
  };
  std::size_t room_;
};

/// A tensor of each type that torch.save knows.
NamedTensors tensors_of_every_type() {
  NamedTensors out;
  for (const auto& type : torch_types()) {
    if (!type.is_saved) continue;
    auto bytes = torch::arange(static_cast<int64_t>(6 * c10::elementSize(type.dtype)), torch::kByte);
    if (type.dtype == torch::kBool) bytes = bytes.remainder(2);
    out.emplace_back(std::string(type.name), bytes.view(type.dtype).view({2, 3}));
  }
  return out;
}

TEST(PthWriter, WritesEveryTypeForPythonAndForItsOwnReaderToTheBit) {
  const TempDir dir;
  const auto tensors = tensors_of_every_type();
  EXPECT_EQ(tensors.size(), 27u);
  write_pth(tensors, dir / "types.pth");
  std::string wanted = "file OrderedDict\n";
  for (const auto& [name, tensor] : tensors) wanted += line_of_python(name, tensor);
  EXPECT_EQ(read_by_python(dir / "types.pth"), wanted);
  const auto read = pth_weights(dir / "types.pth");
  ASSERT_EQ(read.size(), tensors.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].first, tensors[i].first);
    EXPECT_TRUE(has_same_bits(read[i].second, tensors[i].second)) << read[i].first;
  }
}

TEST(PthWriter, KeepsViewsAndTiedTensors) {
  const TempDir dir;
  const auto base = torch::arange(24.f).view({4, 6});
  const auto complex = torch::complex(torch::rand(3), torch::rand(3));
  const NamedTensors tensors = {{"base", base},
                                {"tied", base},
                                {"transposed", base.t()},
                                {"middle", base.slice(0, 1, 3).slice(1, 2, 5)},
                                {"as integers", base.view(torch::kInt)},
                                {"expanded", torch::ones({1, 3}).expand({5, 3})},
                                {"scalar", torch::tensor(2.5)},
                                {"empty", torch::empty({0, 3})},
                                {"conjugated", complex.conj()},
                                {"imaginary", torch::imag(complex.conj())},
                                {"five", torch::rand({1, 2, 1, 2, 2}, torch::requires_grad())}};
  write_pth(tensors, dir / "views.pth");
  std::string wanted = "file OrderedDict\n";
  for (const auto& [name, tensor] : tensors) wanted += line_of_python(name, tensor.detach());
  wanted += "shared file.base file.tied file.transposed file.middle file.as integers\n";
  wanted += "shared file.conjugated file.imaginary\n";
  EXPECT_EQ(read_by_python(dir / "views.pth"), wanted);
  const auto read = pth_weights(dir / "views.pth");
  ASSERT_EQ(read.size(), tensors.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_TRUE(has_same_bits(read[i].second.resolve_conj().resolve_neg(),
                              tensors[i].second.detach().resolve_conj().resolve_neg()))
        << read[i].first;
    EXPECT_EQ(read[i].second.strides(), tensors[i].second.strides()) << read[i].first;
  }
  EXPECT_EQ(read[1].second.const_data_ptr(), read[0].second.const_data_ptr());
}

TEST(PthWriter, WritesPlainValues) {
  const TempDir dir;
  const auto list = PthValue::list_of({1, 255, 256, 65536, -1, int64_t{1} << 40, INT64_MIN, 0.1, true, false});
  const auto value = PthValue::dictionary_of({{"list", list},
                                              {"again", list},
                                              {"text", "h\u00e9 'x'"},
                                              {3, PthValue::tuple_of({1, 2.5, PthValue(), "list"})},
                                              {PthValue::tuple_of({1, "a"}), PthValue::tuple_of({})},
                                              {"bytes", PthValue::bytes_of(std::string("\0\x7f\x80\xff", 4))},
                                              {"weights", PthValue::state_dict_of(NamedTensors{})}});
  write_pth(value, dir / "values.pth");
  const std::string items =
      "list\n%.0 1\n%.1 255\n%.2 256\n%.3 65536\n%.4 -1\n%.5 1099511627776\n"
      "%.6 -9223372036854775808\n%.7 0.1\n%.8 True\n%.9 False\n";
  const auto list_of_python = [&](const std::string& name) {
    std::string out = name + " " + items;
    for (auto at = out.find('%'); at != out.npos; at = out.find('%')) out.replace(at, 1, name);
    return out;
  };
  EXPECT_EQ(read_by_python(dir / "values.pth"),
            "file dict\n" + list_of_python("file.list") + list_of_python("file.again") +
                "file.text \"h\u00e9 'x'\"\nfile.3 tuple\nfile.3.0 1\nfile.3.1 2.5\nfile.3.2 None\nfile.3.3 'list'\n"
                "file.(1, 'a') tuple\nfile.bytes b'\\x00\\x7f\\x80\\xff'\nfile.weights OrderedDict\n");
  const auto read = read_pth(dir / "values.pth");
  EXPECT_EQ(read.find("bytes")->bytes(), std::string("\0\x7f\x80\xff", 4));
  EXPECT_EQ(read.find("list")->items()[6].integer(), INT64_MIN);
  EXPECT_EQ(read.find("text")->text(), "h\u00e9 'x'");
  // What was read can be written.
  write_pth(read, dir / "again.pth");
  EXPECT_EQ(content_of(dir / "again.pth"), content_of(dir / "values.pth"));
}

/// Values as a state_dict may hold them, drawn at random: nested, of every type, views of memory that others have too.
class RandomValues {
 public:
  explicit RandomValues(uint32_t seed) : random_(seed) {}

  PthValue value(int depth = 0) {
    const auto kind = below(depth < 4 ? 10 : 7);
    switch (kind) {
      case 0: return {};
      case 1: return below(2) == 0;
      case 2: return integer();
      case 3: return number();
      case 4: return text();
      case 5: return PthValue::bytes_of(text() + std::string("\0\xff", below(3)));
      case 6: return tensor();
      case 7: return below(2) == 0 ? PthValue::list_of(values(depth)) : PthValue::tuple_of(values(depth));
      case 8: return dictionary(depth);
      default: return state_dict();
    }
  }
  PthValue dictionary(int depth) {
    std::vector<std::pair<PthValue, PthValue>> entries;
    for (std::size_t i = 0, count = below(6) + (depth == 0 ? 4 : 0); i < count; ++i) {
      PthValue key = below(3) == 0 ? PthValue(integer()) : PthValue(text());
      if (below(6) == 0) key = PthValue::tuple_of({key, static_cast<int>(i)});
      const bool is_there = std::ranges::any_of(entries, [&](const auto& entry) { return is_same(entry.first, key); });
      if (!is_there) entries.emplace_back(key, value(depth + 1));
    }
    return PthValue::dictionary_of(std::move(entries));
  }

  /// Whether two values are equal in kind, order and bits.
  static bool is_same(const PthValue& a, const PthValue& b) {
    using Kind = PthValue::Kind;
    if (a.kind() != b.kind() || a.size() != b.size()) return false;
    switch (a.kind()) {
      case Kind::flag: return a.flag() == b.flag();
      case Kind::integer: return a.integer() == b.integer();
      case Kind::number: return std::bit_cast<uint64_t>(a.number()) == std::bit_cast<uint64_t>(b.number());
      case Kind::text: return a.text() == b.text();
      case Kind::bytes: return a.bytes() == b.bytes();
      case Kind::tensor: return is_same(a.tensor(), b.tensor());
      case Kind::list:
      case Kind::tuple:
        return std::ranges::equal(a.items(), b.items(), [](const auto& x, const auto& y) { return is_same(x, y); });
      case Kind::dictionary:
        return std::ranges::equal(a.entries(), b.entries(), [](const auto& x, const auto& y) {
          return is_same(x.first, y.first) && is_same(x.second, y.second);
        });
      default: return true;
    }
  }
  /// For each of the tensors in a value the first whose memory it shares.
  static std::vector<std::size_t> sharing(const PthValue& value) {
    std::vector<const void*> memory;
    collect(value, memory);
    std::vector<std::size_t> out;
    for (const auto* each : memory) {
      out.push_back(static_cast<std::size_t>(std::ranges::find(memory, each) - memory.begin()));
    }
    return out;
  }

 private:
  static bool is_same(const torch::Tensor& a, const torch::Tensor& b) {
    return a.strides() == b.strides() && a.is_conj() == b.is_conj() && a.is_neg() == b.is_neg() &&
           has_same_bits(a.resolve_conj().resolve_neg(), b.resolve_conj().resolve_neg());
  }
  static void collect(const PthValue& value, std::vector<const void*>& memory) {
    if (value.kind() == PthValue::Kind::tensor && value.tensor().numel() > 0) {
      memory.push_back(value.tensor().storage().data());
    } else if (value.kind() == PthValue::Kind::dictionary) {
      for (const auto& [key, each] : value.entries()) collect(each, memory);
    } else if (value.kind() == PthValue::Kind::list || value.kind() == PthValue::Kind::tuple) {
      for (const auto& each : value.items()) collect(each, memory);
    }
  }

  std::size_t below(std::size_t end) { return random_() % end; }
  int64_t integer() {
    const auto bits = static_cast<int64_t>(uint64_t{random_()} << 32 | random_());
    return bits >> below(64);
  }
  double number() {
    constexpr double inf = std::numeric_limits<double>::infinity();
    const std::vector<double> some = {0.0, -0.0, inf, -inf, 5e-324, 0.1, -1e300};
    const auto i = below(2 * some.size());
    return i < some.size() ? some[i] : std::ldexp(random_(), static_cast<int>(below(200)) - 100);
  }
  std::string text() {
    const std::vector<std::string> parts = {"w", "layer.", "0", "\n", "'", "\u00e9", "\u20ac", "\U0001f600", "\x01"};
    std::string out;
    for (std::size_t i = below(below(8) == 0 ? 200 : 6); i > 0; --i) out += parts[below(parts.size())];
    return out;
  }
  std::vector<PthValue> values(int depth) {
    std::vector<PthValue> out;
    for (std::size_t i = below(5); i > 0; --i) out.push_back(value(depth + 1));
    if (out.size() > 1 && below(3) == 0) out.push_back(out.front());
    return out;
  }
  PthValue state_dict() {
    NamedTensors out;
    for (std::size_t i = below(5); i > 0; --i) out.emplace_back("weight" + std::to_string(i), tensor());
    return PthValue::state_dict_of(out);
  }
  torch::Tensor tensor() {
    if (tensors_.empty() || below(3) > 0) tensors_.push_back(fresh());
    return viewed(tensors_[below(tensors_.size())]);
  }
  torch::Tensor fresh() {
    std::vector<TorchType> saved;
    std::ranges::copy_if(torch_types(), std::back_inserter(saved), &TorchType::is_saved);
    const auto type = saved[below(saved.size())].dtype;
    std::vector<int64_t> sizes(below(5));
    int64_t bytes = static_cast<int64_t>(c10::elementSize(type));
    for (auto& size : sizes) bytes *= size = static_cast<int64_t>(below(8) == 0 ? 0 : 1 + below(4));
    auto memory = torch::empty({bytes}, torch::kByte);
    for (int64_t i = 0; i < bytes; ++i) memory.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(random_());
    if (type == torch::kBool) memory.bitwise_and_(1);
    return memory.view(type).view(sizes);
  }
  torch::Tensor viewed(torch::Tensor x) {
    for (std::size_t i = below(3); i > 0 && x.dim() > 0; --i) {
      const auto dim = static_cast<int64_t>(below(static_cast<std::size_t>(x.dim())));
      switch (below(5)) {
        case 0: x = x.transpose(0, dim); break;
        case 1: x = x.slice(dim, x.size(dim) / 2, x.size(dim), 1 + static_cast<int64_t>(below(2))); break;
        case 2: {
          auto sizes = x.unsqueeze(dim).sizes().vec();
          sizes[static_cast<std::size_t>(dim)] = 3;
          x = x.unsqueeze(dim).expand(sizes);
          break;
        }
        case 3: x = x.size(dim) > 0 ? x.select(dim, x.size(dim) - 1) : x; break;
        default: x = x.is_complex() && x.scalar_type() != torch::kComplexHalf ? x.conj() : x;
      }
    }
    return x;
  }

  std::mt19937 random_;
  std::vector<torch::Tensor> tensors_;
};

TEST(PthWriter, WritesWhateverIsNestedForPythonAndForItsOwnReader) {
  const TempDir dir;
  constexpr uint32_t files = 100;
  std::vector<PthValue> values;
  std::string arguments = "--again";
  std::size_t tensors = 0, shared = 0;
  for (uint32_t seed = 0; seed < files; ++seed) {
    values.push_back(RandomValues(seed).dictionary(0));
    const auto file = dir / (std::to_string(seed) + ".pth");
    write_pth(values.back(), file);
    arguments += " '" + file.string() + "' '" + file.string() + ".again'";
    const auto first = RandomValues::sharing(values.back());
    tensors += first.size();
    for (std::size_t i = 0; i < first.size(); ++i) shared += first[i] < i;
  }
  EXPECT_GT(tensors, 200u);
  EXPECT_GT(shared, 50u);
  python_output("read_pth.py", arguments + " 2>&1");
  for (uint32_t seed = 0; seed < files; ++seed) {
    for (const char* ending : {".pth", ".pth.again"}) {
      const auto read = read_pth(dir / (std::to_string(seed) + ending));
      EXPECT_TRUE(RandomValues::is_same(read, values[seed])) << "seed " << seed << ending;
      EXPECT_EQ(RandomValues::sharing(read), RandomValues::sharing(values[seed])) << "seed " << seed << ending;
    }
  }
}

TEST(PthWriter, LaysOutTheArchiveAsTorchSaveDoes) {
  const TempDir dir;
  const auto value = PthValue::tuple_of({PthValue::tuple_of({torch::rand({2, 3})}), PthValue::dictionary_of({})});
  const auto bytes = pth_bytes(value);
  write_pth(value, dir / "a.pth");
  EXPECT_EQ(content_of(dir / "a.pth"), bytes);
  std::vector<std::string> names;
  for (const auto& member : zip_members(std::as_bytes(std::span(bytes)), "a.pth")) {
    names.push_back(member.name);
    EXPECT_FALSE(member.is_deflated) << member.name;
    EXPECT_EQ((reinterpret_cast<const char*>(member.content.data()) - bytes.data()) % 64, 0) << member.name;
  }
  EXPECT_THAT(names,
              ElementsAre("archive/data.pkl", "archive/.format_version", "archive/.storage_alignment",
                          "archive/byteorder", "archive/data/0", "archive/version", "archive/.data/serialization_id"));
}

TEST(PthWriter, ConvertsAStorageOnceForAllThatShareIt) {
  const TempDir dir;
  const auto base = torch::rand({4, 6});
  write_pth(NamedTensors{{"base", base}, {"row", base[2]}, {"count", torch::tensor(3)}}, dir / "half.pth",
            {.dtype = torch::kBFloat16});
  const auto read = pth_weights(dir / "half.pth");
  EXPECT_TRUE(has_same_bits(read[0].second, base.to(torch::kBFloat16)));
  EXPECT_TRUE(has_same_bits(read[1].second, base[2].to(torch::kBFloat16)));
  EXPECT_TRUE(has_same_bits(read[2].second, torch::tensor(3)));
  EXPECT_TRUE(read[0].second.is_alias_of(read[1].second));
}

TEST(PthWriter, LooksAtAKeyThatHasItsPartsTwiceOnce) {
  auto key = PthValue::tuple_of({1});
  for (int i = 0; i < 60; ++i) key = PthValue::tuple_of({key, key});
  EXPECT_FALSE(pth_bytes(PthValue::dictionary_of({{key, 1}})).empty());
}

TEST(PthWriter, SaysWhatCannotBeWrittenAndWritesNothing) {
  const TempDir dir;
  const auto refused = [&](const PthValue& value) { return refusal([&] { write_pth(value, dir / "x.pth"); }); };
  const auto weight = [&](const torch::Tensor& tensor) {
    return refused(PthValue::dictionary_of({{"net", PthValue::state_dict_of(NamedTensors{{"w", tensor}})}}));
  };
  EXPECT_EQ(weight(torch::eye(2).to_sparse()), "'net.w' is sparse: write tensor.to_dense()");
  EXPECT_EQ(weight(torch::empty(2, torch::kMeta)), "'net.w' is on the device 'meta' and has no values");
  EXPECT_EQ(weight(torch::quantize_per_tensor(torch::ones(2), 0.1, 0, torch::kQInt8)),
            "'net.w' is quantized: write tensor.dequantize()");
  EXPECT_EQ(weight(torch::zeros(2, torch::kByte).view(torch::kUInt2)),
            "'net.w' has the type UInt2, which torch.load does not know");
  EXPECT_EQ(refused("\xff"), "the value has the text '\\xff', which is not UTF-8");
  EXPECT_THAT(refused(PthValue::dictionary_of({{PthValue::list_of({}), 1}})), HasSubstr("which Python cannot hash"));
  auto deep = PthValue::list_of({});
  for (int i = 0; i < 101; ++i) deep = PthValue::list_of({deep});
  EXPECT_THAT(refused(deep), HasSubstr("is nested deeper than 100 levels"));
  auto deep_key = PthValue::tuple_of({1});
  for (int i = 0; i < 5'000; ++i) deep_key = PthValue::tuple_of({deep_key});
  EXPECT_THAT(refused(PthValue::dictionary_of({{deep_key, 1}})), HasSubstr("is nested deeper than 100 levels"));
  EXPECT_THAT(refusal([] { (void)PthValue(UINT64_MAX); }), HasSubstr("is too large"));
  EXPECT_THAT(refusal([] { (void)PthValue(torch::Tensor()); }), HasSubstr("undefined"));
  EXPECT_EQ(refusal([] {
              (void)PthValue::state_dict_of(NamedTensors{{"a", torch::ones(1)}, {"a", torch::ones(1)}});
            }),
            "tensor 'a' is to be stored twice");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(PthWriter, LeavesNothingWhenTheDiskIsFull) {
  const TempDir dir;
  for (const std::size_t room : {0, 100, 700, 1300}) {
    FullDisk disk(room);
    EXPECT_THROW(write_pth(NamedTensors{{"w", torch::ones(300)}}, dir / "x.pth", {}, disk), FileError) << room;
    EXPECT_TRUE(std::filesystem::is_empty(dir.path())) << room;
  }
}

}  // namespace
}  // namespace troupe
