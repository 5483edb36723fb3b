#include "engine/block_key.hpp"

#include <cstring>

namespace troupe::engine {
namespace {

__extension__ using Wide = unsigned __int128;

// Multiply and fold: every input bit reaches every output bit.
uint64_t fold(uint64_t a, uint64_t b) {
  const Wide product = Wide{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Two lanes with constants of their own; 128 bits make an accidental collision a non-event.
class Mixer {
 public:
  explicit Mixer(const BlockKey& seed) : high_(seed.high), low_(seed.low) {}
  void add(uint64_t word) {
    high_ = fold(high_ ^ word ^ 0xA0761D6478BD642FULL, 0xE7037ED1A0B428DBULL ^ low_);
    low_ = fold(low_ ^ word ^ 0x8EBC6AF09C88C6E3ULL, 0x589965CC75374CC3ULL ^ word << 32 ^ word >> 32);
    low_ += high_ << 17 | high_ >> 47;
  }
  [[nodiscard]] BlockKey key() const {
    return {fold(high_ ^ 0x1D8E4E27C47D124FULL, low_ | 1), fold(low_ ^ 0xEB44ACCAB455D165ULL, high_ | 1)};
  }

 private:
  uint64_t high_, low_;
};

}  // namespace

BlockKey root_key(const KeyRoot& root) {
  Mixer mixer({0x9E3779B97F4A7C15ULL, 0xC2B2AE3D27D4EB4FULL});
  mixer.add(root.model);
  mixer.add(root.tenant);
  mixer.add(root.rope_regime);
  mixer.add(static_cast<uint64_t>(static_cast<int64_t>(root.adapter)));
  return mixer.key();
}

BlockKey bytes_key(const BlockKey& seed, std::span<const std::byte> bytes) {
  Mixer mixer(seed);
  mixer.add(bytes.size());
  size_t i = 0;
  for (; i + sizeof(uint64_t) <= bytes.size(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, sizeof word);
    mixer.add(word);
  }
  uint64_t rest = 0;
  if (i < bytes.size()) std::memcpy(&rest, bytes.data() + i, bytes.size() - i);
  mixer.add(rest);
  return mixer.key();
}

BlockKey chain_key(const BlockKey& parent, const BlockKey& content) {
  Mixer mixer(parent);
  mixer.add(content.high);
  mixer.add(content.low);
  return mixer.key();
}

BlockKey block_content(std::span<const int32_t> tokens, std::span<const uint64_t> marks) {
  Mixer mixer({0x2545F4914F6CDD1DULL, 0xD6E8FEB86659FD93ULL});
  mixer.add(tokens.size() << 32 | marks.size());
  size_t i = 0;
  for (; i + 1 < tokens.size(); i += 2) {
    mixer.add(static_cast<uint64_t>(static_cast<uint32_t>(tokens[i])) << 32 |
              static_cast<uint32_t>(tokens[i + 1]));
  }
  if (i < tokens.size()) mixer.add(static_cast<uint32_t>(tokens[i]));
  for (const uint64_t mark : marks) mixer.add(mark);
  return mixer.key();
}

}  // namespace troupe::engine
