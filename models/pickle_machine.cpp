#include "models/pickle_machine.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>

#include "base/limits.hpp"

namespace troupe::models::pickle {
namespace {

constexpr std::array<std::string_view, 21> kKnownGlobals = {"collections OrderedDict",
                                                            "torch._utils _rebuild_tensor_v2",
                                                            "torch._utils _rebuild_parameter",
                                                            "torch FloatStorage",
                                                            "torch HalfStorage",
                                                            "torch BFloat16Storage",
                                                            "torch DoubleStorage",
                                                            "torch LongStorage",
                                                            "torch IntStorage",
                                                            "torch ShortStorage",
                                                            "torch CharStorage",
                                                            "torch ByteStorage",
                                                            "torch BoolStorage",
                                                            "torch.storage UntypedStorage",
                                                            "torch Size",
                                                            "torch float32",
                                                            "torch float16",
                                                            "torch bfloat16",
                                                            "torch int64",
                                                            "torch int32",
                                                            "torch uint8"};

enum Op : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kPersonal = 'Q',
  kReduce = 'R',
  kUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kGet = 'h',
  kLongGet = 'j',
  kPut = 'q',
  kLongPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kProto = 0x80,
  kNewObject = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kTrue = 0x88,
  kFalse = 0x89,
  kLong1 = 0x8a,
  kShortUnicode = 0x8c,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95
};

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, std::string_view label)
      : bytes_(bytes), label_(label) {}
  Result<Program> run();

 private:
  Status step(uint8_t op);
  Status push_number(uint8_t op);
  Status push_text(uint8_t op);
  Status memo(uint8_t op);
  Status containers(uint8_t op);
  Status fill(uint8_t op);
  Status global(std::string name);
  Status stack_global();
  Status reduce();
  Status take_marked(std::vector<Ref>& out);

  [[nodiscard]] Status broken(const std::string& why) const {
    return corrupt_model(std::string(label_) + ": pickle: " + why + " at byte " +
                         std::to_string(at_));
  }
  template <class T>
  bool read(T& out) {
    if (bytes_.size() - at_ < sizeof out) return false;
    std::memcpy(&out, bytes_.data() + at_, sizeof out);
    at_ += sizeof out;
    return true;
  }
  bool read_text(size_t count, std::string_view& out) {
    if (bytes_.size() - at_ < count) return false;
    out = {reinterpret_cast<const char*>(bytes_.data()) + at_, count};
    at_ += count;
    return true;
  }
  bool read_line(std::string& out) {
    for (char c = 0; read(c);) {
      if (c == '\n') return true;
      out.push_back(c);
    }
    return false;
  }
  Status push(Value value) {
    // Every push may make a value: bounding their number bounds the machine's memory.
    if (out_.values.size() >= limits::pickle_values) return broken("too many values");
    stack_.push_back(static_cast<Ref>(out_.values.size()));
    out_.values.push_back(std::move(value));
    return ok_status();
  }
  // Values above the innermost mark; they may not be taken across it.
  [[nodiscard]] size_t depth() const {
    return stack_.size() - (marks_.empty() ? 0 : marks_.back());
  }
  Ref pop() {
    const Ref top = stack_.back();
    stack_.pop_back();
    return top;
  }

  std::span<const std::byte> bytes_;
  std::string_view label_;
  size_t at_ = 0;
  Program out_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;
  std::map<uint32_t, Ref> memo_;
  size_t listed_ = 0;  // entries of all containers
};

Status Machine::take_marked(std::vector<Ref>& out) {
  if (marks_.empty()) return broken("no mark on the stack");
  const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
  out.assign(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return ok_status();
}

Status Machine::push_number(uint8_t op) {
  Value v{.kind = Kind::integer};
  bool fine = true;
  if (op == kBinInt) {
    int32_t n = 0;
    fine = read(n);
    v.integer = n;
  } else if (op == kBinInt1) {
    uint8_t n = 0;
    fine = read(n);
    v.integer = n;
  } else if (op == kBinInt2) {
    uint16_t n = 0;
    fine = read(n);
    v.integer = n;
  } else if (op == kBinFloat) {
    double ignored = 0;  // no tensor needs it: its value is not kept
    fine = read(ignored);
    v.kind = Kind::real;
  } else {  // kLong1: little-endian two's complement
    uint8_t count = 0;
    std::string_view raw;
    fine = read(count) && count <= 8 && read_text(count, raw);
    uint64_t n = fine && count > 0 && (static_cast<uint8_t>(raw.back()) & 0x80U) != 0 ? ~0ULL : 0;
    for (size_t i = raw.size(); fine && i-- > 0;) n = (n << 8U) | static_cast<uint8_t>(raw[i]);
    v.integer = static_cast<int64_t>(n);
  }
  return fine ? push(std::move(v)) : broken("number cut off or too long");
}

Status Machine::push_text(uint8_t op) {
  Value v{.kind = Kind::text};
  uint32_t count = 0;
  uint8_t short_count = 0;
  const bool sized = op == kUnicode ? read(count) : read(short_count);
  if (op == kShortUnicode) count = short_count;
  if (!sized || !read_text(count, v.text)) return broken("text cut off");
  return push(std::move(v));
}

Status Machine::memo(uint8_t op) {
  uint32_t index = 0;
  uint8_t small = 0;
  bool fine = true;
  if (op == kPut || op == kGet) {
    fine = read(small);
    index = small;
  } else if (op == kLongPut || op == kLongGet) {
    fine = read(index);
  } else {
    index = static_cast<uint32_t>(memo_.size());
  }
  if (!fine) return broken("memo index cut off");
  if (op == kGet || op == kLongGet) {
    const auto it = memo_.find(index);
    if (it == memo_.end()) return broken("memo " + std::to_string(index) + " was never set");
    if (stack_.size() >= limits::pickle_values) return broken("too many values");
    stack_.push_back(it->second);
    return ok_status();
  }
  if (depth() < 1) return broken("empty stack");
  memo_[index] = stack_.back();
  return ok_status();
}

Status Machine::containers(uint8_t op) {
  Value v{.kind = op == kEmptyDict ? Kind::dict : Kind::sequence};
  if (op == kTuple) {
    TR_TRY(take_marked(v.items));
  } else if (op == kTuple1 || op == kTuple2 || op == kTuple3) {
    const size_t count = op - kTuple1 + size_t{1};
    if (depth() < count) return broken("empty stack");
    v.items.assign(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
  }
  return push(std::move(v));
}

Status Machine::fill(uint8_t op) {
  std::vector<Ref> items;
  if (op == kAppends || op == kSetItems) {
    TR_TRY(take_marked(items));
  } else {
    const size_t count = op == kAppend ? 1 : 2;
    if (depth() < count) return broken("empty stack");
    items.assign(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
  }
  if (depth() < 1) return broken("empty stack");
  Value& target = out_.values[stack_.back()];
  listed_ += items.size();
  if (listed_ > limits::pickle_values) return broken("too many values");
  if (op == kAppend || op == kAppends) {
    if (target.kind != Kind::sequence) return broken("append to what is not a list");
    target.items.insert(target.items.end(), items.begin(), items.end());
    return ok_status();
  }
  if (target.kind != Kind::dict || items.size() % 2 != 0)
    return broken("item set on no dictionary");
  for (size_t i = 0; i < items.size(); i += 2) target.entries.emplace_back(items[i], items[i + 1]);
  return ok_status();
}

Status Machine::global(std::string name) {
  const auto known = std::find(kKnownGlobals.begin(), kKnownGlobals.end(), name);
  if (known == kKnownGlobals.end()) {
    std::replace(name.begin(), name.end(), ' ', '.');
    return corrupt_model(std::string(label_) + ": pickle wants to use " + name +
                         ", which is refused: only tensors are read, no code is run; convert the "
                         "file to safetensors if you trust it");
  }
  return push({.kind = Kind::global, .text = *known});
}

Status Machine::stack_global() {
  if (depth() < 2) return broken("empty stack");
  const Ref name = pop(), module = pop();
  if (out_[name].kind != Kind::text || out_[module].kind != Kind::text) {
    return broken("a global's name is not text");
  }
  return global(std::string(out_[module].text) + " " + std::string(out_[name].text));
}

Status Machine::reduce() {
  if (depth() < 2) return broken("empty stack");
  const Ref arguments = pop(), callable = pop();
  const Value& f = out_[callable];
  const Value& a = out_[arguments];
  if (f.kind != Kind::global || a.kind != Kind::sequence)
    return broken("call of what is no function");
  if (f.text == "collections OrderedDict") {
    return push({.kind = Kind::dict});
  }
  if (f.text == "torch._utils _rebuild_parameter") {
    if (a.items.empty()) return broken("parameter without data");
    stack_.push_back(a.items[0]);
    return ok_status();
  }
  if (f.text == "torch._utils _rebuild_tensor_v2") {
    listed_ += a.items.size();
    if (listed_ > limits::pickle_values) return broken("too many values");
    return push({.kind = Kind::tensor, .items = a.items});
  }
  if (f.text == "torch Size") {
    if (a.items.size() != 1) return broken("torch.Size wants one argument");
    stack_.push_back(a.items[0]);
    return ok_status();
  }
  return broken("call of " + std::string(f.text));
}

Status Machine::step(uint8_t op) {
  switch (op) {
    case kProto: {
      uint8_t version = 0;
      return read(version) && version <= 5 ? ok_status() : broken("unknown protocol");
    }
    case kFrame: {
      uint64_t ignored = 0;
      return read(ignored) ? ok_status() : broken("frame cut off");
    }
    case kMark:
      if (marks_.size() >= limits::pickle_values) return broken("too many marks");
      marks_.push_back(stack_.size());
      return ok_status();
    case kPop:
      if (depth() < 1) return broken("empty stack");
      stack_.pop_back();
      return ok_status();
    case kNone:
      return push({});
    case kTrue:
    case kFalse:
      return push({.kind = Kind::boolean, .integer = op == kTrue});
    case kBinFloat:
    case kBinInt:
    case kBinInt1:
    case kBinInt2:
    case kLong1:
      return push_number(op);
    case kUnicode:
    case kShortUnicode:
      return push_text(op);
    case kPut:
    case kLongPut:
    case kMemoize:
    case kGet:
    case kLongGet:
      return memo(op);
    case kEmptyDict:
    case kEmptyList:
    case kEmptyTuple:
    case kTuple:
    case kTuple1:
    case kTuple2:
    case kTuple3:
      return containers(op);
    case kAppend:
    case kAppends:
    case kSetItem:
    case kSetItems:
      return fill(op);
    case kGlobal: {
      std::string module, name;
      if (!read_line(module) || !read_line(name)) return broken("global cut off");
      return global(module + " " + name);
    }
    case kStackGlobal:
      return stack_global();
    case kReduce:
      return reduce();
    case kPersonal: {
      if (depth() < 1) return broken("empty stack");
      const Ref id = pop();
      if (out_[id].kind != Kind::sequence) return broken("persistent id is not a tuple");
      listed_ += out_[id].items.size();
      if (listed_ > limits::pickle_values) return broken("too many values");
      return push({.kind = Kind::storage, .items = out_[id].items});
    }
    case kBuild:  // attributes of an OrderedDict (_metadata): of no interest
      if (depth() < 2) return broken("empty stack");
      stack_.pop_back();
      return ok_status();
    default:
      break;
  }
  constexpr const char* kDigits = "0123456789abcdef";
  std::string opcode = "opcode 0x";
  opcode += kDigits[op >> 4U];
  opcode += kDigits[op & 15U];
  return broken(opcode.append(" is not one that torch.save writes"));
}

Result<Program> Machine::run() {
  uint8_t op = 0;
  while (read(op)) {
    if (op == kStop) {
      if (stack_.size() != 1 || !marks_.empty()) return broken("ends with a stack of several");
      out_.result = stack_.back();
      return std::move(out_);
    }
    TR_TRY(step(op));
  }
  return broken("ends without its stop mark: truncated?");
}

}  // namespace

Result<Program> run(std::span<const std::byte> bytes, std::string_view label) {
  return Machine(bytes, label).run();
}

}  // namespace troupe::models::pickle
