// Writes message bodies: msgpack's packer over a string that is used again and again, so that a
// steady stream of deltas allocates nothing.
#pragma once

#ifndef MSGPACK_NO_BOOST
#define MSGPACK_NO_BOOST
#endif
#include <bit>
#include <cstdint>
#include <msgpack/pack.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "wire/protocol.hpp"

namespace troupe::wire {

class Writer {
 public:
  // Appends to `to`, which must outlive this.
  explicit Writer(std::string& to) : sink_{to}, packer_(sink_) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void number(uint64_t value) { packer_.pack_uint64(value); }
  void integer(int64_t value) { packer_.pack_int64(value); }
  // The packer makes integers of whole numbers, and tries it with some that no integer holds.
  void real(float value) {
    if (value > -0x1p63F && value < 0x1p63F) {
      packer_.pack_float(value);
      return;
    }
    const auto bits = std::bit_cast<uint32_t>(value);
    const char bytes[] = {'\xCA', static_cast<char>(bits >> 24), static_cast<char>(bits >> 16),
                          static_cast<char>(bits >> 8), static_cast<char>(bits)};
    sink_.write(bytes, sizeof bytes);
  }
  void boolean(bool value) { value ? packer_.pack_true() : packer_.pack_false(); }
  void text(std::string_view value) {
    const auto size = static_cast<uint32_t>(value.size());
    packer_.pack_str(size);
    packer_.pack_str_body(value.data(), size);
  }
  void bytes(std::span<const uint8_t> value) {
    const auto size = static_cast<uint32_t>(value.size());
    packer_.pack_bin(size);
    packer_.pack_bin_body(reinterpret_cast<const char*>(value.data()), size);
  }
  void id(const Id128& value) { bytes(value); }
  void array(size_t count) { packer_.pack_array(static_cast<uint32_t>(count)); }

  // A map whose number of entries is counted while they are written: its header is made good at the
  // end. Up to 15 entries take one byte, up to 65,535 take three.
  class Map {
   public:
    enum class Size : uint8_t { small, large };
    explicit Map(Writer& writer, Size size = Size::small)
        : writer_(writer), at_(writer.sink_.to.size()), size_(size) {
      writer_.sink_.to.append(size == Size::small ? 1 : 3, '\0');
    }
    ~Map() { finish(); }
    Map(const Map&) = delete;
    Map& operator=(const Map&) = delete;

    // The value is to be written next.
    Writer& key(uint64_t k) {
      ++count_;
      writer_.number(k);
      return writer_;
    }
    void finish();

   private:
    Writer& writer_;
    const size_t at_;
    const Size size_;
    size_t count_ = 0;
    bool finished_ = false;
  };

 private:
  struct Sink {
    std::string& to;
    void write(const char* data, size_t size) { to.append(data, size); }
  };
  Sink sink_;
  msgpack::packer<Sink> packer_;
};

inline void Writer::Map::finish() {
  if (finished_) return;
  finished_ = true;
  std::string& to = writer_.sink_.to;
  if (size_ == Size::small) {
    to[at_] = static_cast<char>(0x80 | (count_ & 0x0F));
    return;
  }
  to[at_] = static_cast<char>(0xDE);
  to[at_ + 1] = static_cast<char>(count_ >> 8);
  to[at_ + 2] = static_cast<char>(count_ & 0xFF);
}

// The common shape of optional fields: written when they are there.
inline void put(Writer::Map& map, uint64_t key, std::string_view value) {
  if (!value.empty()) map.key(key).text(value);
}
inline void put(Writer::Map& map, uint64_t key, const std::optional<float>& value) {
  if (value) map.key(key).real(*value);
}
inline void put(Writer::Map& map, uint64_t key, const std::optional<int32_t>& value) {
  if (value) map.key(key).integer(*value);
}

}  // namespace troupe::wire
