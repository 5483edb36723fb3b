// Reads message bodies that a stranger sent: a pull decoder of msgpack that allocates nothing.
//
// INV-WIRE-1: no count or size is believed before it was held against the bytes that are left, so a
// body of n bytes costs O(n), whatever it claims. Depth is bounded. After the first failure every
// call answers zero and status() says what was wrong and where; whoever reads checks once, at the
// end. Views point into the bytes that were given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/status.hpp"
#include "wire/protocol.hpp"

namespace troupe::wire {

inline constexpr int kDepthMax = 16;
inline constexpr uint64_t kCountMax = uint64_t{1} << 62;  // of any count that is believed

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  [[nodiscard]] bool ok() const { return !failed_; }
  [[nodiscard]] bool at_end() const { return failed_ || at_ == bytes_.size(); }
  // What went wrong; `where` is put in front.
  [[nodiscard]] Status status(std::string_view where) const;
  // The first failure stays.
  void fail(std::string_view why);

  // Whole numbers that do not fit into the type asked for are failures.
  uint64_t number(uint64_t most = std::numeric_limits<uint64_t>::max());
  int64_t integer(int64_t low = std::numeric_limits<int64_t>::min(),
                  int64_t high = std::numeric_limits<int64_t>::max());
  int32_t int32(int32_t low = std::numeric_limits<int32_t>::min(),
                int32_t high = std::numeric_limits<int32_t>::max()) {
    return static_cast<int32_t>(integer(low, high));
  }
  double real();  // a float, or a whole number
  float real32() { return static_cast<float>(real()); }
  bool boolean();
  std::string_view text(size_t most = std::numeric_limits<uint32_t>::max());  // whole UTF-8
  std::string_view bytes(size_t most = std::numeric_limits<uint32_t>::max());
  Id128 id();
  // How many values (of a map: pairs) follow.
  size_t array(size_t most = std::numeric_limits<uint32_t>::max());
  size_t map();
  // Is the next value of this family? For values that may be one of two things.
  [[nodiscard]] bool next_is_array() const;
  [[nodiscard]] bool next_is_text() const;
  void skip();

  // Every pair of a map: `take(key)` reads the value of a key it knows and says true; the values of
  // the others are skipped. A known key may come once.
  template <class Take>
  void each(Take take) {
    uint64_t seen = 0;
    for (size_t n = map(); n > 0 && ok(); --n) {
      const uint64_t k = number();
      if (!ok()) return;
      const uint64_t bit = k < 64 ? uint64_t{1} << k : 0;
      if ((seen & bit) != 0) {
        fail("key " + std::to_string(k) + " comes twice");
        return;
      }
      seen |= bit;
      if (!take(k)) skip();
    }
  }

 private:
  struct Item;  // a header: family, and its number or count
  Item item();
  uint8_t byte(size_t i) const { return static_cast<uint8_t>(bytes_[at_ + i]); }
  bool need(size_t n);
  uint64_t big_endian(size_t n);
  std::string_view take(size_t n);
  void skip_nested(int depth);

  std::string_view bytes_;
  size_t at_ = 0;
  bool failed_ = false;
  std::string why_;
};

// Offset of the first byte that is not part of well-formed UTF-8; npos: there is none.
[[nodiscard]] size_t bad_utf8(std::string_view text);

}  // namespace troupe::wire
