// Numbers from bytes that may end at any time: reading beyond the end gives zeros and is
// remembered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace troupe::vision {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] size_t at() const { return at_; }
  [[nodiscard]] size_t left() const { return bytes_.size() - at_; }
  void seek(size_t to) {
    ended_ = ended_ || to > bytes_.size();
    at_ = ended_ ? bytes_.size() : to;
  }
  void skip(size_t count) { count > left() ? seek(bytes_.size() + 1) : seek(at_ + count); }

  uint8_t u8() {
    if (at_ == bytes_.size()) {
      ended_ = true;
      return 0;
    }
    return static_cast<uint8_t>(bytes_[at_++]);
  }
  uint32_t little(int count) {
    uint32_t out = 0;
    for (int i = 0; i < count; ++i) out |= uint32_t{u8()} << (8 * i);
    return out;
  }
  uint32_t big(int count) {
    uint32_t out = 0;
    for (int i = 0; i < count; ++i) out = (out << 8) | u8();
    return out;
  }
  // Whether these bytes come next; they are not consumed.
  [[nodiscard]] bool next_is(std::string_view text) const {
    return left() >= text.size() && std::memcmp(bytes_.data() + at_, text.data(), text.size()) == 0;
  }
  // The next bytes, as many as there are of `count`.
  std::span<const std::byte> take(size_t count) {
    const auto out = bytes_.subspan(at_, count < left() ? count : left());
    skip(count);
    return out;
  }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  bool ended_ = false;
};

}  // namespace troupe::vision
