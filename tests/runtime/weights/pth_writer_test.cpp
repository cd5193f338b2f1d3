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
#include <cerrno>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
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
