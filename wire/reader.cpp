#include "wire/reader.hpp"

#include <bit>
#include <cstring>

namespace troupe::wire {
namespace {

enum class Family : uint8_t {
  nil,
  boolean,
  positive,
  negative,
  real,
  text,
  bytes,
  array,
  map,
  extension
};

}  // namespace

struct Reader::Item {
  Family family = Family::nil;
  uint64_t value = 0;  // the number (negative ones as two's complement), or the size or count
  double real = 0.0;
};

Status Reader::status(std::string_view where) const {
  if (!failed_) return {};
  return invalid(std::string(where) + ": " + why_ + " at byte " + std::to_string(at_) + " of " +
                 std::to_string(bytes_.size()));
}

void Reader::fail(std::string_view why) {
  if (failed_) return;
  failed_ = true;
  why_ = why;
}

bool Reader::need(size_t n) {
  if (failed_) return false;
  if (bytes_.size() - at_ >= n) return true;
  fail("the body ends too early");
  return false;
}

uint64_t Reader::big_endian(size_t n) {
  if (!need(n)) return 0;
  uint64_t value = 0;
  for (size_t i = 0; i < n; ++i) value = value << 8 | byte(i);
  at_ += n;
  return value;
}

std::string_view Reader::take(size_t n) {
  if (!need(n)) return {};
  const std::string_view taken = bytes_.substr(at_, n);
  at_ += n;
  return taken;
}

Reader::Item Reader::item() {
  if (!need(1)) return {};
  const uint8_t lead = byte(0);
  ++at_;
  if (lead < 0x80) return {Family::positive, lead};
  if (lead < 0x90) return {Family::map, lead & 0x0FU};
  if (lead < 0xA0) return {Family::array, lead & 0x0FU};
  if (lead < 0xC0) return {Family::text, lead & 0x1FU};
  if (lead >= 0xE0)
    return {Family::negative,
            static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(lead)))};
  switch (lead) {
    case 0xC0:
      return {Family::nil};
    case 0xC2:
      return {Family::boolean, 0};
    case 0xC3:
      return {Family::boolean, 1};
    case 0xC4:
    case 0xC5:
    case 0xC6:
      return {Family::bytes, big_endian(size_t{1} << (lead - 0xC4))};
    case 0xC7:
    case 0xC8:
    case 0xC9:
      return {Family::extension, big_endian(size_t{1} << (lead - 0xC7)) + 1};
    case 0xCA:
      return {Family::real, 0,
              static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(big_endian(4))))};
    case 0xCB:
      return {Family::real, 0, std::bit_cast<double>(big_endian(8))};
    case 0xCC:
    case 0xCD:
    case 0xCE:
    case 0xCF:
      return {Family::positive, big_endian(size_t{1} << (lead - 0xCC))};
    case 0xD0:
    case 0xD1:
    case 0xD2:
    case 0xD3: {
      const size_t n = size_t{1} << (lead - 0xD0);
      const unsigned shift = static_cast<unsigned>(64 - 8 * n);
      const auto value = static_cast<int64_t>(big_endian(n) << shift) >> shift;
      return {value < 0 ? Family::negative : Family::positive, static_cast<uint64_t>(value)};
    }
    case 0xD4:
    case 0xD5:
    case 0xD6:
    case 0xD7:
    case 0xD8:
      return {Family::extension, (uint64_t{1} << (lead - 0xD4)) + 1};
    case 0xD9:
    case 0xDA:
    case 0xDB:
      return {Family::text, big_endian(size_t{1} << (lead - 0xD9))};
    case 0xDC:
    case 0xDD:
      return {Family::array, big_endian(size_t{2} << (lead - 0xDC))};
    case 0xDE:
    case 0xDF:
      return {Family::map, big_endian(size_t{2} << (lead - 0xDE))};
    default:
      break;
  }
  fail("0xC1 is no msgpack");
  return {};
}

uint64_t Reader::number(uint64_t most) {
  const Item i = item();
  if (failed_) return 0;
  if (i.family != Family::positive)
    fail("a whole number that is not negative was expected");
  else if (i.value > most)
    fail("the number " + std::to_string(i.value) + " is more than " + std::to_string(most));
  return failed_ ? 0 : i.value;
}

int64_t Reader::integer(int64_t low, int64_t high) {
  const Item i = item();
  if (failed_) return 0;
  if (i.family != Family::positive && i.family != Family::negative) {
    fail("a whole number was expected");
  } else if (i.family == Family::positive &&
             i.value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    fail("the number is too large");
  } else if (const auto value = static_cast<int64_t>(i.value); value < low || value > high) {
    fail("the number " + std::to_string(value) + " must be " + std::to_string(low) + " to " +
         std::to_string(high));
  }
  return failed_ ? 0 : static_cast<int64_t>(i.value);
}

double Reader::real() {
  const Item i = item();
  if (failed_) return 0.0;
  switch (i.family) {
    case Family::real:
      return i.real;
    case Family::positive:
      return static_cast<double>(i.value);
    case Family::negative:
      return static_cast<double>(static_cast<int64_t>(i.value));
    default:
      fail("a number was expected");
      return 0.0;
  }
}

bool Reader::boolean() {
  const Item i = item();
  if (!failed_ && i.family != Family::boolean) fail("true or false was expected");
  return !failed_ && i.value != 0;
}

std::string_view Reader::text(size_t most) {
  const Item i = item();
  if (failed_) return {};
  if (i.family != Family::text)
    fail("text was expected");
  else if (i.value > most)
    fail("the text has " + std::to_string(i.value) + " bytes: at most " + std::to_string(most));
  const std::string_view taken = take(failed_ ? 0 : static_cast<size_t>(i.value));
  if (!failed_) {
    if (const size_t bad = bad_utf8(taken); bad != std::string_view::npos) {
      fail("the text is not UTF-8, from its byte " + std::to_string(bad) + " on,");
    }
  }
  return failed_ ? std::string_view() : taken;
}

std::string_view Reader::bytes(size_t most) {
  const Item i = item();
  if (failed_) return {};
  if (i.family != Family::bytes)
    fail("bytes were expected");
  else if (i.value > most)
    fail("there are " + std::to_string(i.value) + " bytes: at most " + std::to_string(most));
  return take(failed_ ? 0 : static_cast<size_t>(i.value));
}

Id128 Reader::id() {
  const std::string_view taken = bytes(sizeof(Id128));
  Id128 value{};
  if (!failed_ && taken.size() != value.size()) fail("an id of 16 bytes was expected");
  if (!failed_) std::memcpy(value.data(), taken.data(), value.size());
  return value;
}

size_t Reader::array(size_t most) {
  const Item i = item();
  if (failed_) return 0;
  if (i.family != Family::array)
    fail("a list was expected");
  else if (i.value > bytes_.size() - at_)
    fail("the list claims more values than there are bytes");  // INV-WIRE-1
  else if (i.value > most)
    fail("the list has " + std::to_string(i.value) + " values: at most " + std::to_string(most));
  return failed_ ? 0 : static_cast<size_t>(i.value);
}

size_t Reader::map() {
  const Item i = item();
  if (failed_) return 0;
  if (i.family != Family::map)
    fail("a map was expected");
  else if (i.value > (bytes_.size() - at_) / 2)
    fail("the map claims more pairs than there are bytes");
  return failed_ ? 0 : static_cast<size_t>(i.value);
}

bool Reader::next_is_array() const {
  if (failed_ || at_ == bytes_.size()) return false;
  const uint8_t lead = byte(0);
  return (lead & 0xF0) == 0x90 || lead == 0xDC || lead == 0xDD;
}

bool Reader::next_is_text() const {
  if (failed_ || at_ == bytes_.size()) return false;
  const uint8_t lead = byte(0);
  return (lead & 0xE0) == 0xA0 || (lead >= 0xD9 && lead <= 0xDB);
}

void Reader::skip() {
  skip_nested(0);
}

void Reader::skip_nested(int depth) {
  if (depth > kDepthMax) {
    fail("values are nested more than " + std::to_string(kDepthMax) + " deep");
    return;
  }
  const Item i = item();
  if (failed_) return;
  uint64_t inside = 0;
  switch (i.family) {
    case Family::text:
    case Family::bytes:
    case Family::extension:
      if (i.value > bytes_.size() - at_)
        fail("the body ends too early");
      else
        at_ += static_cast<size_t>(i.value);
      return;
    case Family::array:
      inside = i.value;
      break;
    case Family::map:
      inside = 2 * i.value;
      break;
    default:
      return;
  }
  if (inside > bytes_.size() - at_) {
    fail("a list or map claims more values than there are bytes");
    return;
  }
  for (; inside > 0 && !failed_; --inside) skip_nested(depth + 1);
}

size_t bad_utf8(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    if (i + 8 <= text.size()) {  // eight bytes of ASCII at once
      uint64_t word = 0;
      std::memcpy(&word, text.data() + i, sizeof word);
      if ((word & 0x8080808080808080U) == 0) {
        i += 8;
        continue;
      }
    }
    const uint8_t lead = at(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || text.size() - i < length) return i;
    for (size_t k = 1; k < length; ++k) {
      if ((at(i + k) & 0xC0) != 0x80) return i;
    }
    const uint8_t second = at(i + 1);
    const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
    const bool surrogate = lead == 0xED && second > 0x9F;
    const bool beyond = lead == 0xF4 && second > 0x8F;
    if (overlong || surrogate || beyond) return i;
    i += length;
  }
  return std::string_view::npos;
}

}  // namespace troupe::wire
