#include "engine/sequence.hpp"

#include <algorithm>
#include <array>

namespace troupe::engine {

void extend_keys(Sequence& sequence, int32_t block_tokens) {
  const int32_t full = sequence.known() / block_tokens;
  if (static_cast<int32_t>(sequence.keys.size()) >= full) return;
  const Prompt& prompt = sequence.job->spec.prompt;
  std::array<int32_t, kBlockTokensMax> tokens{};
  std::vector<uint64_t> marks;
  for (auto b = static_cast<int32_t>(sequence.keys.size()); b < full; ++b) {
    const int32_t begin = b * block_tokens;
    for (int32_t i = 0; i < block_tokens; ++i) {
      tokens[static_cast<size_t>(i)] = sequence.token(begin + i);
    }
    marks.clear();
    const auto mark = [&](const PromptImage& image, int32_t rows) {
      const int32_t from = std::max(begin, image.position);
      if (from >= std::min(begin + block_tokens, image.position + rows)) return;
      marks.push_back(static_cast<uint64_t>(from - begin) << 32 |
                      static_cast<uint32_t>(from - image.position + image.source_row));
      marks.push_back(image.content.high);
      marks.push_back(image.content.low);
    };
    for (const PromptImage& image : prompt.images) mark(image, image.rows);
    for (const PromptImage& image : prompt.cross_images) mark(image, 1);
    const BlockKey& parent = b == 0 ? sequence.job->root : sequence.keys.back();
    sequence.keys.push_back(block_key(parent, std::span(tokens).first(static_cast<size_t>(block_tokens)), marks));
  }
}

}  // namespace troupe::engine
