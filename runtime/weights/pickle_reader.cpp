#include "troupe/runtime/weights/pickle_reader.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <bit>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace troupe {

namespace {

/// The opcodes that are read. Names are those of Python's pickletools.
enum Opcode : uint8_t {
  PROTO = 0x80,
  FRAME = 0x95,
  STOP = '.',
  MARK = '(',
  POP = '0',
  NONE = 'N',
  NEWTRUE = 0x88,
  NEWFALSE = 0x89,
  BININT = 'J',
  BININT1 = 'K',
  BININT2 = 'M',
  LONG1 = 0x8a,
  LONG4 = 0x8b,
  BINFLOAT = 'G',
  SHORT_BINSTRING = 'U',
  BINSTRING = 'T',
  BINUNICODE = 'X',
  SHORT_BINUNICODE = 0x8c,
  BINUNICODE8 = 0x8d,
  SHORT_BINBYTES = 'C',
  BINBYTES = 'B',
  BINBYTES8 = 0x8e,
  BYTEARRAY8 = 0x96,
  EMPTY_LIST = ']',
  APPEND = 'a',
  APPENDS = 'e',
  EMPTY_TUPLE = ')',
  TUPLE1 = 0x85,
  TUPLE2 = 0x86,
  TUPLE3 = 0x87,
  TUPLE = 't',
  EMPTY_DICT = '}',
  SETITEM = 's',
  SETITEMS = 'u',
  EMPTY_SET = 0x8f,
  ADDITEMS = 0x90,
  FROZENSET = 0x91,
  BINGET = 'h',
  LONG_BINGET = 'j',
  BINPUT = 'q',
  LONG_BINPUT = 'r',
  MEMOIZE = 0x94,
  GLOBAL = 'c',
  STACK_GLOBAL = 0x93,
  REDUCE = 'R',
  BUILD = 'b',
  BINPERSID = 'Q',
};

/// Those that are refused: they make objects of classes, or belong to protocols 0 and 1. A table, one case per opcode.
std::string refused_opcode(uint8_t code) {
  switch (code) {
    case 0x81: return "NEWOBJ (it makes an object of a class)";
    case 0x92: return "NEWOBJ_EX (it makes an object of a class)";
    case 'i': return "INST (it calls a class)";
    case 'o': return "OBJ (it calls a class)";
    case 'P': return "PERSID (an object from outside)";
    case 0x82: return "EXT1 (a class of a registry)";
    case 0x83: return "EXT2 (a class of a registry)";
    case 0x84: return "EXT4 (a class of a registry)";
    case 0x97: return "NEXT_BUFFER (memory from outside)";
    case 0x98: return "READONLY_BUFFER (memory from outside)";
    case 'I':
    case 'L':
    case 'F':
    case 'S':
    case 'V':
    case 'l':
    case 'd':
    case 'p':
    case 'g': return "'" + std::string(1, static_cast<char>(code)) + "' of protocol 0, which torch.save does not write";
    case '1': return "POP_MARK";
    case '2': return "DUP";
    default: return "number " + std::to_string(code) + ", which Python does not have";
  }
}

class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, PickleArena& arena, PickleObjects& objects)
      : bytes_(bytes), arena_(arena), objects_(objects) {}

  PickleValue run(const std::string& source) {
    std::size_t at = 0;
    try {
      while (true) {
        at = position_;
        const auto code = static_cast<uint8_t>(number(1));
        if (code == STOP) return pop();
        if (!run_data(code) && !run_container(code) && !run_object(code)) {
          throw UsageError("its opcode is " + refused_opcode(code) +
                           "; a state_dict has none such, nothing of it is run");
        }
      }
    } catch (const UsageError& error) {
      throw UsageError(source + ", byte " + std::to_string(at) + ": " + error.what());
    }
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - position_) {
      throw UsageError("it is cut off: " + std::to_string(count) + " bytes were to follow, " +
                       std::to_string(bytes_.size() - position_) + " do");
    }
    const auto* const begin = reinterpret_cast<const char*>(bytes_.data()) + position_;
    position_ += count;
    return {begin, static_cast<std::size_t>(count)};
  }
  uint64_t number(std::size_t count) {
    const auto taken = take(count);
    uint64_t out = 0;
    for (std::size_t i = count; i-- > 0;) out = out << 8 | static_cast<uint8_t>(taken[i]);
    return out;
  }
  std::string line() {
    const auto rest = std::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size()).substr(position_);
    const auto end = rest.find('\n');
    if (end == std::string_view::npos) throw UsageError("it is cut off within a name");
    position_ += end + 1;
    return std::string(rest.substr(0, end));
  }

  void push(PickleValue value) { stack_.push_back(value); }
  PickleValue pop() {
    const auto value = top();
    stack_.pop_back();
    return value;
  }
  const PickleValue& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) throw UsageError("it takes a value that is not there");
    return stack_.back();
  }
  std::vector<PickleValue> pop_to_mark() {
    if (marks_.empty()) throw UsageError("it takes values from a mark that is not there");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleValue> out(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return out;
  }
  PickleNode& top_of(PickleKind kind, const char* wanted) {
    if (auto* const node = node_of(top(), kind)) return *node;
    throw UsageError("it adds to " + pickle_text(top()) + ", which is no " + wanted);
  }
  void push_text(std::string_view text) {
    if (!is_utf8(text)) throw UsageError("its text '" + shown(text) + "' is not UTF-8");
    push(arena_.make(PickleKind::text, std::string(text)));
  }
  void push_bytes(std::string_view bytes) { push(arena_.make(PickleKind::bytes, std::string(bytes))); }
  void push_tuple(std::size_t count) {
    std::vector<PickleValue> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push(arena_.make(PickleKind::tuple, std::move(items)));
  }
  /// Two's complement of as many bytes as it takes, the least one first.
  void push_long(std::string_view digits) {
    if (digits.size() > sizeof(int64_t)) {
      push(arena_.make(PickleKind::other, "a whole number of " + std::to_string(digits.size()) + " bytes"));
      return;
    }
    uint64_t out = !digits.empty() && (static_cast<uint8_t>(digits.back()) & 0x80) != 0 ? ~uint64_t{0} : 0;
    for (std::size_t i = digits.size(); i-- > 0;) out = out << 8 | static_cast<uint8_t>(digits[i]);
    push(static_cast<int64_t>(out));
  }
  double big_endian_double() {
    uint64_t bits = 0;
    for (const char byte : take(8)) bits = bits << 8 | static_cast<uint8_t>(byte);
    return std::bit_cast<double>(bits);
  }
  void recall(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) throw UsageError("it recalls value " + std::to_string(index) + ", which was not kept");
    push(found->second);
  }
  void add_items(PickleNode& dictionary, const std::vector<PickleValue>& items) {
    if (items.size() % 2 != 0) throw UsageError("a key has no value");
    dictionary.items.insert(dictionary.items.end(), items.begin(), items.end());
  }

  // A table, one case per opcode.
  bool run_data(uint8_t code) {
    switch (code) {
      case PROTO: return check_protocol(number(1));
      case FRAME: return (void)number(8), true;
      case NONE: return push({}), true;
      case NEWTRUE: return push(true), true;
      case NEWFALSE: return push(false), true;
      case BININT: return push(int64_t{static_cast<int32_t>(number(4))}), true;
      case BININT1: return push(static_cast<int64_t>(number(1))), true;
      case BININT2: return push(static_cast<int64_t>(number(2))), true;
      case LONG1: return push_long(take(number(1))), true;
      case LONG4: return push_long(take(number(4))), true;
      case BINFLOAT: return push(big_endian_double()), true;
      case SHORT_BINSTRING:
      case SHORT_BINUNICODE: return push_text(take(number(1))), true;
      case BINSTRING:
      case BINUNICODE: return push_text(take(number(4))), true;
      case BINUNICODE8: return push_text(take(number(8))), true;
      case SHORT_BINBYTES: return push_bytes(take(number(1))), true;
      case BINBYTES: return push_bytes(take(number(4))), true;
      case BINBYTES8:
      case BYTEARRAY8: return push_bytes(take(number(8))), true;
      default: return false;
    }
  }

  bool check_protocol(uint64_t protocol) {
    if (protocol >= 2 && protocol <= 5) return true;
    throw UsageError("it is of protocol " + std::to_string(protocol) + ", 2 to 5 are read");
  }

  bool run_container(uint8_t code) {
    switch (code) {
      case MARK: return marks_.push_back(stack_.size()), true;
      case POP: return (void)pop(), true;
      case EMPTY_LIST: return push(arena_.make(PickleKind::list)), true;
      case EMPTY_DICT: return push(arena_.make(PickleKind::dictionary)), true;
      case EMPTY_SET: return push(arena_.make(PickleKind::set)), true;
      case EMPTY_TUPLE: return push_tuple(0), true;
      case TUPLE1: return push_tuple(1), true;
      case TUPLE2: return push_tuple(2), true;
      case TUPLE3: return push_tuple(3), true;
      case TUPLE: return push(arena_.make(PickleKind::tuple, pop_to_mark())), true;
      case FROZENSET: return push(arena_.make(PickleKind::set, pop_to_mark())), true;
      case APPEND: {
        const auto item = pop();
        return top_of(PickleKind::list, "list").items.push_back(item), true;
      }
      case APPENDS:
      case ADDITEMS: {
        const auto items = pop_to_mark();
        auto& all = code == APPENDS ? top_of(PickleKind::list, "list").items : top_of(PickleKind::set, "set").items;
        return all.insert(all.end(), items.begin(), items.end()), true;
      }
      case SETITEM: {
        const auto value = pop(), key = pop();
        return add_items(top_of(PickleKind::dictionary, "dictionary"), {key, value}), true;
      }
      case SETITEMS: {
        const auto items = pop_to_mark();
        return add_items(top_of(PickleKind::dictionary, "dictionary"), items), true;
      }
      default: return false;
    }
  }

  bool run_object(uint8_t code) {
    switch (code) {
      case BINGET: return recall(number(1)), true;
      case LONG_BINGET: return recall(number(4)), true;
      case BINPUT: return memo_[number(1)] = top(), true;
      case LONG_BINPUT: return memo_[number(4)] = top(), true;
      case MEMOIZE: {
        const auto value = top();
        return memo_.emplace(memo_.size(), value), true;
      }
      case GLOBAL: {
        const auto module = line(), name = line();
        return push(objects_.global(module, name)), true;
      }
      case STACK_GLOBAL: {
        const auto name = pop(), module = pop();
        const PickleNode* const names[] = {node_of(module, PickleKind::text), node_of(name, PickleKind::text)};
        if (!names[0] || !names[1]) throw UsageError("the name of a class is no text");
        return push(objects_.global(names[0]->text, names[1]->text)), true;
      }
      case REDUCE: {
        const auto arguments = pop(), callee = pop();
        const auto* const global = node_of(callee, PickleKind::global);
        if (!global) throw UsageError("it calls " + pickle_text(callee));
        return push(objects_.call(*global, arguments)), true;
      }
      case BUILD: return build(pop()), true;
      case BINPERSID: return push(objects_.persistent(pop())), true;
      default: return false;
    }
  }

  /// torch.save gives a state_dict attributes: `_metadata`, the versions of its layers. Nobody needs them here.
  void build(const PickleValue& state) {
    const auto* const object = node_of(top(), PickleKind::dictionary);
    if (object && object->is_ordered_dict && node_of(state, PickleKind::dictionary)) return;
    throw UsageError("it gives " + pickle_text(top()) + " attributes, which only an OrderedDict of a state_dict has");
  }

  std::span<const std::byte> bytes_;
  PickleArena& arena_;
  PickleObjects& objects_;
  std::size_t position_ = 0;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;  // where each open one lies in the stack
  std::unordered_map<uint64_t, PickleValue> memo_;
};

}  // namespace

PickleValue read_pickle(std::span<const std::byte> bytes, const std::string& source, PickleArena& arena,
                        PickleObjects& objects) {
  return PickleMachine(bytes, arena, objects).run(source);
}

}  // namespace troupe
