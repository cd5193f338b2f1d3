#include "troupe/runtime/data/arrays/npy.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/numpy_arrays.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <span>
#include <string>

namespace troupe {
namespace {

using testing::HasSubstr;

std::span<const std::byte> bytes_to_parse(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// A file of version 1.0 with that dictionary.
std::string npy_file(const std::string& dictionary, const std::string& data = "") {
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(dictionary.size() & 0xff);
  out += static_cast<char>(dictionary.size() >> 8);
  return out + dictionary + data;
}

std::string npy_refusal(const std::string& content) {
  return refusal([&] { read_npy(bytes_to_parse(content), "x.npy"); });
}

std::string refusal_of_dictionary(const std::string& dictionary, const std::string& data = "") {
  return npy_refusal(npy_file(dictionary, data));
}

TEST(Npy, EveryTypeOrderAndVersionOfNumpysIsRead) {
  const TempDir dir;
  const auto arrays = write_numpy_arrays(dir);
  ASSERT_GT(arrays.size(), 70u);
  for (const auto& array : arrays) {
    const auto path = dir / (array.name + ".npy");
    if (!std::filesystem::exists(path)) continue;  // it is one of an .npz
    array.expect_same(read_npy(path));
    array.expect_same(read_npy(path, {.mmap = false}));
    array.expect_same(read_npy(bytes_to_parse(content_of(path))));
  }
  EXPECT_EQ(read_npy(dir / "fortran_matrix.npy").strides(), at::IntArrayRef({1, 6})) << "a view, not a copy";

  const auto refused = [&](const std::string& name) {
    const auto path = dir / ("not_" + name + ".npy");
    const auto text = refusal([&] { read_npy(path); });
    EXPECT_THAT(text, testing::StartsWith(path.string() + " is an array of "));
    EXPECT_EQ(refusal([&] { read_npy(path, {.mmap = false}); }), text);
    return text;
  };
  EXPECT_THAT(refused("objects"), HasSubstr("a pickle, which is never loaded"));
  EXPECT_THAT(refused("structured"), HasSubstr("save each field on its own, as np.savez("));
  EXPECT_THAT(refused("large_header"), HasSubstr("a structured type"));
  EXPECT_THAT(refused("strings"), HasSubstr("return_inverse=True"));
  EXPECT_THAT(refused("bytes"), HasSubstr("strings"));
  EXPECT_THAT(refused("dates"), HasSubstr("array.astype(np.int64)"));
  EXPECT_THAT(refused("durations"), HasSubstr("array.astype(np.int64)"));
  EXPECT_THAT(refused("long_double"), HasSubstr("array.astype(np.float64)"));
  EXPECT_THAT(refused("void"), HasSubstr("'|V2', bytes without a meaning"));
}

TEST(Npy, ATensorKeepsItsMapAndLeavesTheFileAsItIs) {
  const TempDir dir;
  const auto path = dir / "x.npy";
  const auto content = npy_file("{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }    ", std::string(12, '\1'));
  put(path, content);
  auto tensor = read_npy(path).slice(0, 1);
  tensor.add_(1);
  EXPECT_TRUE(tensor.equal(torch::full({2}, 0x01010102, torch::kInt32)));
  std::filesystem::remove(path);
  tensor.add_(1);
  EXPECT_EQ(tensor[0].item<int32_t>(), 0x01010103);
  put(path, content);
  EXPECT_EQ(content_of(path), content);
}

TEST(Npy, NumbersThatAreNotAlignedBecomeACopy) {
  const TempDir dir;
  put(dir / "x.npy", npy_file("{'descr': '<i8','fortran_order': False,'shape': (2,)} ", std::string(16, '\2')));
  const auto tensor = read_npy(dir / "x.npy");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 8, 0u);
  EXPECT_EQ(tensor[1].item<int64_t>(), 0x0202020202020202);
}

TEST(Npy, HeadersOfOtherWritersAreRead) {
  const std::string data(8, '\0');
  for (const char* dictionary : {"{'shape': (2,), \"descr\": '<f4', 'fortran_order': True}",
                                 "{'descr':'f4','fortran_order':False,'shape':(2L,)}",
                                 "{'descr': '=f4', 'fortran_order': False, 'shape': (2),}\n\n",
                                 "{'descr': '|f4', 'fortran_order': False, "
                                 "'shape': (1, 2)}"}) {
    EXPECT_EQ(refusal_of_dictionary(dictionary, data), "accepted") << dictionary;
  }
}

TEST(Npy, SaysWhatIsNoArray) {
  const TempDir dir;
  EXPECT_THAT(refusal([&] { read_npy(dir / "absent.npy"); }), HasSubstr("absent.npy: No such file"));
  EXPECT_THAT(refusal([&] { read_npy(dir.path()); }), HasSubstr("is a folder; a file was expected"));
  EXPECT_EQ(npy_refusal(""), "x.npy is empty; an array (.npy) was expected");
  EXPECT_THAT(npy_refusal("\x93NUM"), HasSubstr("ends within its first 6 bytes"));
  EXPECT_THAT(npy_refusal("PK\3\4"), HasSubstr("read it with read_npz"));
  EXPECT_THAT(npy_refusal("\x80\4\x95"), HasSubstr("is a pickle, which is never loaded"));
  EXPECT_THAT(npy_refusal("1,2,3\n"), HasSubstr("does not begin with \\x93NUMPY"));
  EXPECT_THAT(npy_refusal(std::string("\x93NUMPY\x04\x00", 8)), HasSubstr("is of version 4.0"));
  EXPECT_THAT(npy_refusal(std::string("\x93NUMPY\x01\x00\xff\xff{", 11)), HasSubstr("after 11 of 65545 bytes"));
}

TEST(Npy, RefusesHeadersThatNumpyDoesNotWrite) {
  const auto with_shape = [](const std::string& shape) {
    return refusal_of_dictionary("{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + "}");
  };
  EXPECT_THAT(with_shape("(3, -1)"), HasSubstr("should be a size, or ')', it is '-'"));
  EXPECT_THAT(with_shape("(99999999999999999999,)"), HasSubstr("does not fit into 64 bits"));
  EXPECT_THAT(with_shape("(4294967296, 4294967296)"), HasSubstr("which no memory can hold"));
  EXPECT_THAT(with_shape("(0, 4294967296, 4294967296)"), HasSubstr("which no memory can hold"));
  EXPECT_THAT(with_shape("(1152921504606846975,)"), HasSubstr("takes 9223372036854775800 bytes, 0 follow"));
  std::string ones = "(";
  for (int i = 0; i < 65; ++i) ones += "1,";
  EXPECT_THAT(with_shape(ones + ")"), HasSubstr("more than 64 dimensions"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': '<f8', 'fortran_order': False}"), HasSubstr("it has no shape"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': '<f8', 'descr': '<f8'}"), HasSubstr("'descr' twice"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': '<f8', 'x': 3}"), HasSubstr("an entry 'x'"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': '<f8', 'fortran_order': 1}"), HasSubstr("should be True or False"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': '<f8"), HasSubstr("a quote is never closed"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': __import__('os')"), HasSubstr("a type in quotes, it is '_'"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': '<f8', 'fortran_order': False, 'shape': ()} x"), HasSubstr("byte 54"));
  EXPECT_THAT(refusal_of_dictionary("{'descr': 'bfloat16', 'fortran_order': False, 'shape': ()}"),
              HasSubstr("the type 'bfloat16', which is none"));
}

TEST(Npy, RefusesDataThatDoNotFitTheHeader) {
  const std::string dictionary = "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }";
  EXPECT_THAT(refusal_of_dictionary(dictionary, std::string(2, '\1')), HasSubstr("takes 3 bytes, 2 follow the header; "
                                                                                 "the file is cut off"));
  EXPECT_THAT(refusal_of_dictionary(dictionary, std::string(4, '\1')), HasSubstr("several np.save calls"));
  EXPECT_EQ(refusal_of_dictionary(dictionary, {1, 0, 2}), "x.npy: element 2 of its bools is 2, neither 0 nor 1");
}

}  // namespace
}  // namespace troupe
