#include "troupe/runtime/weights/pickle_reader.hpp"

#include "tests/support/refusal.hpp"
#include "troupe/runtime/weights/torch_objects.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace troupe {
namespace {

using testing::HasSubstr;

/// A pickle with a storage "0" of four floats outside of it.
struct PickleByHand {
  std::vector<float> numbers = {1, 2, 3, 4};
  std::vector<ZipMember> members{{.name = "x/data/0", .size = 16, .content = std::as_bytes(std::span(numbers))}};
  PthStorages storages{members, "x/data/", nullptr, 1000};
  PickleArena arena;
  TorchObjects objects{storages, arena, 1000};

  PickleValue read(const std::string& opcodes) {
    return read_pickle(std::as_bytes(std::span(opcodes.data(), opcodes.size())), "x", arena, objects);
  }
  std::string refused(const std::string& opcodes) {
    return refusal([&] { read(opcodes); });
  }
};

std::string text_opcode(const std::string& text) {
  return "X" + std::string(1, static_cast<char>(text.size())) + std::string(3, '\0') + text;
}

/// torch._utils._rebuild_tensor_v2 of a storage of `count` floats; the others are opcodes.
std::string tensor_opcodes(int count, const std::string& offset, const std::string& sizes, const std::string& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text_opcode("storage") + "ctorch\nFloatStorage\n" +
         text_opcode("0") + text_opcode("cpu") + "K" + static_cast<char>(count) + "tQ" + offset + sizes + strides +
         "\x89NtR.";
}

TEST(PickleReader, ReadsNumbersOfEverySize) {
  PickleByHand hand;
  EXPECT_EQ(std::get<int64_t>(hand.read("\x80\x02J\xfe\xff\xff\xff.")), -2);
  EXPECT_EQ(std::get<int64_t>(hand.read("M\x01\x02.")), 513);
  EXPECT_EQ(std::get<int64_t>(hand.read(std::string("\x8a\x00.", 3))), 0);
  EXPECT_EQ(std::get<int64_t>(hand.read(std::string("\x8a\x02\x00\x80.", 5))), -32768);
  EXPECT_EQ(std::get<double>(hand.read(std::string("G\x3f\xf8\0\0\0\0\0\0.", 10))), 1.5);
}

TEST(PickleReader, RefusesOpcodesThatMakeObjectsByTheirNames) {
  PickleByHand hand;
  EXPECT_THAT(hand.refused(")\x81."), HasSubstr("x, byte 1: its opcode is NEWOBJ (it makes an object of a class)"));
  EXPECT_THAT(hand.refused("(S'echo'\nios\nsystem\n."), HasSubstr("protocol 0"));
  EXPECT_THAT(hand.refused("(ios\nsystem\n."), HasSubstr("INST (it calls a class)"));
  EXPECT_THAT(hand.refused("\x97."), HasSubstr("its opcode is NEXT_BUFFER (memory from outside)"));
  EXPECT_THAT(hand.refused("\x98."), HasSubstr("its opcode is READONLY_BUFFER (memory from outside)"));
  EXPECT_THAT(hand.refused("\x83\x01\x01."), HasSubstr("its opcode is EXT2 (a class of a registry)"));
  EXPECT_THAT(hand.refused("\x93"), HasSubstr("it takes a value that is not there"));
  EXPECT_THAT(hand.refused(text_opcode("os") + text_opcode("system") + "\x93."), HasSubstr("the file names os.system"));
  EXPECT_THAT(hand.refused("cbuiltins\neval\n."), HasSubstr("the file names builtins.eval"));
  EXPECT_THAT(hand.refused("K\x01)R."), HasSubstr("it calls the number 1"));
  EXPECT_THAT(hand.refused("}}b."), HasSubstr("attributes"));
  EXPECT_THAT(hand.refused(text_opcode("x") + "Q."), HasSubstr("no storage of a tensor"));
}

TEST(PickleReader, AsksForNoMemoryThatThePickleOnlyClaims) {
  PickleByHand hand;
  EXPECT_THAT(hand.refused("X\xff\xff\xff\xffy"), HasSubstr("it is cut off: 4294967295 bytes were to follow, 1 do"));
  EXPECT_THAT(hand.refused("j\xff\xff\xff\x7f"), HasSubstr("it recalls value 2147483647, which was not kept"));
  EXPECT_EQ(std::get<int64_t>(hand.read("K\x05r\xff\xff\xff\x7f.")), 5);
  EXPECT_THAT(hand.refused("}(K\x01u."), HasSubstr("a key has no value"));
  EXPECT_THAT(hand.refused("t"), HasSubstr("a mark that is not there"));
  EXPECT_THAT(hand.refused(""), HasSubstr("it is cut off"));
  const std::string deep(200'000, ']');
  EXPECT_TRUE(node_of(hand.read(deep + std::string(199'999, 'a') + "."), PickleKind::list));
  std::string copies = "c__builtin__\nset\nq\x01](" + std::string(20'000, 'N') + "e\x85q\x02";
  for (int i = 0; i < 450; ++i) copies += "h\x01h\x02R0";
  EXPECT_THAT(hand.refused(copies + "."), HasSubstr("more tensors and copies than a state_dict can have"));
}

TEST(PickleReader, RefusesTensorsThatDoNotLieInTheirStorage) {
  PickleByHand hand;
  const auto value = hand.read(tensor_opcodes(4, "K\x01", "K\x03\x85", "K\x01\x85"));
  EXPECT_EQ(node_of(value, PickleKind::tensor)->tensor.sum().item<float>(), 9);
  EXPECT_THAT(hand.refused(tensor_opcodes(4, "K\x02", "K\x03\x85", "K\x01\x85")),
              HasSubstr("sizes [3], strides [1] and offset 2 does not lie in its storage of 4 elements"));
  EXPECT_THAT(hand.refused(tensor_opcodes(4, "J\xff\xff\xff\xff", "K\x01\x85", "K\x01\x85")), HasSubstr("outside"));
  EXPECT_THAT(hand.refused(tensor_opcodes(4, "K\x03", "K\x02\x85", "J\xff\xff\xff\xff\x85")), HasSubstr("negative"));
  const std::string large = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
  EXPECT_THAT(hand.refused(tensor_opcodes(4, std::string("K\0", 2), large + "\x85", large + "\x85")),
              HasSubstr("does not lie in its storage"));
  EXPECT_THAT(
      hand.refused(tensor_opcodes(4, std::string("K\0", 2), large + large + "\x86", std::string("K\0K\0\x86", 5))),
      HasSubstr("is too large"));
  EXPECT_THAT(hand.refused(tensor_opcodes(4, std::string("K\0", 2), large + "\x85", std::string("K\0\x85", 3))),
              HasSubstr("more bytes than are allowed"));
  EXPECT_THAT(hand.refused(tensor_opcodes(5, std::string("K\0", 2), "K\x05\x85", "K\x01\x85")),
              HasSubstr("storage data/0 is to have 20 bytes, the archive has 16 of it"));
}

}  // namespace
}  // namespace troupe
