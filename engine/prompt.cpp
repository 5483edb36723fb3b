#include "engine/prompt.hpp"

#include <algorithm>

namespace troupe::engine {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// Makes a list that may be empty as long as the prompt, entry i by `filler(i)`.
template <class T, class F>
void fill(std::vector<T>& list, size_t length, F&& filler) {
  for (size_t i = list.size(); i < length; ++i) list.push_back(filler(i));
}

int32_t plain_rope(size_t i) { return static_cast<int32_t>(i / 3); }
int32_t plain_span(size_t i) { return static_cast<int32_t>(i) + 1; }
uint8_t text_row(size_t) { return 0; }

void join_rope(Prompt& out, Prompt& after, size_t before) {
  if (out.rope_positions.empty() && after.rope_positions.empty() && out.rope_delta == 0) return;
  fill(out.rope_positions, 3 * before, plain_rope);
  fill(after.rope_positions, 3 * after.tokens.size(), plain_rope);
  const auto shift = static_cast<int32_t>(before) + out.rope_delta;
  for (int32_t& p : after.rope_positions) p += shift;
  append(out.rope_positions, after.rope_positions);
  out.rope_delta += after.rope_delta;
}

void join_spans(Prompt& out, Prompt& after, size_t before) {
  if (out.span_ends.empty() && after.span_ends.empty()) return;
  fill(out.span_ends, before, plain_span);
  fill(after.span_ends, after.tokens.size(), plain_span);
  for (int32_t& p : after.span_ends) p += static_cast<int32_t>(before);
  append(out.span_ends, after.span_ends);
}

// Tokens before the new part's first picture still see the last one of the old part.
void join_cross(Prompt& out, Prompt& after, size_t before) {
  if (out.cross.empty() && after.cross.empty()) return;
  fill(out.cross, before, [](size_t) { return CrossRows{}; });
  fill(after.cross, after.tokens.size(), [](size_t) { return CrossRows{}; });
  const CrossRows last = out.cross.empty() ? CrossRows{} : out.cross.back();
  for (CrossRows& c : after.cross) {
    const bool none = c.begin < 0 || c.begin == c.end;  // no picture before it in its own turn
    if (none && out.cross.empty()) continue;
    c = none ? last : CrossRows{c.begin + out.cross_rows, c.end + out.cross_rows};
  }
  append(out.cross, after.cross);
  for (PromptImage& image : after.cross_images) {
    image.position += static_cast<int32_t>(before);
    image.source_row += out.cross_rows;
  }
  append(out.cross_images, after.cross_images);
  out.cross_rows += after.cross_rows;
}

}  // namespace

int32_t Prompt::whole_spans(int32_t begin, int32_t rows) const {
  int32_t end = begin + rows;
  if (span_ends.empty() || end > length()) return rows;
  while (end > begin && span_ends[static_cast<size_t>(end - 1)] > end) --end;
  return end - begin;
}

int32_t Prompt::longest_span() const {
  int32_t longest = 1;
  for (size_t i = 0; i < span_ends.size(); ++i) {
    longest = std::max(longest, span_ends[i] - static_cast<int32_t>(i));
  }
  return longest;
}

int32_t Prompt::rows_ready(int32_t begin, int32_t rows) const {
  for (const PromptImage& image : images) {
    if (image.ready || image.position + image.rows <= begin) continue;
    rows = std::min(rows, std::max(0, image.position - begin));
  }
  for (const PromptImage& image : cross_images) {
    if (!image.ready) return 0;
  }
  return rows;
}

bool Prompt::misses_picture(int32_t begin) const {
  const auto seen = [&](const PromptImage& i) { return i.gone && i.position + i.rows > begin; };
  return std::any_of(images.begin(), images.end(), seen) ||
         std::any_of(cross_images.begin(), cross_images.end(),
                     [](const PromptImage& i) { return i.gone; });
}

BlockKey content_of(const Prompt& prompt, int32_t begin, std::span<const int32_t> tokens) {
  if (prompt.images.empty() && prompt.cross_images.empty()) return block_content(tokens);
  const auto end = begin + static_cast<int32_t>(tokens.size());
  std::vector<uint64_t> marks;
  const auto mark = [&](const PromptImage& image, int32_t rows) {
    const int32_t from = std::max(begin, image.position);
    if (from >= std::min(end, image.position + rows)) return;
    marks.push_back(static_cast<uint64_t>(from - begin) << 32 |
                    static_cast<uint32_t>(from - image.position + image.source_row));
    marks.push_back(image.content.high);
    marks.push_back(image.content.low);
  };
  for (const PromptImage& image : prompt.images) mark(image, image.rows);
  for (const PromptImage& image : prompt.cross_images) mark(image, 1);
  return block_content(tokens, marks);
}

void name_blocks(Prompt& prompt, const BlockKey& root, int32_t block_tokens) {
  // Names of an answer go on where these end; of a long prompt they would have to move for that.
  constexpr size_t kLong = 1024, kRoomForAnswer = 512;
  if (!prompt.images.empty() || !prompt.cross_images.empty()) return;  // they may not be known yet
  const auto size = static_cast<size_t>(block_tokens);
  const size_t full = prompt.tokens.size() / size;
  prompt.names_root = root;
  prompt.names_tokens = block_tokens;
  prompt.names.clear();
  prompt.names.reserve(full + (full >= kLong ? kRoomForAnswer : 0));
  for (size_t b = 0; b < full; ++b) {
    const auto tokens = std::span(prompt.tokens).subspan(b * size, size);
    prompt.names.push_back(chain_key(b == 0 ? root : prompt.names.back(), block_content(tokens)));
  }
}

void drop_front(Prompt& prompt, int32_t tokens) {
  if (tokens == 0) return;
  const auto drop = [](auto& list, int32_t count) {
    if (!list.empty()) list.erase(list.begin(), list.begin() + count);
  };
  drop(prompt.tokens, tokens);
  drop(prompt.modality, tokens);
  drop(prompt.span_ends, tokens);
  drop(prompt.cross, tokens);
  drop(prompt.rope_positions, 3 * tokens);
  for (int32_t& p : prompt.span_ends) p -= tokens;
  for (int32_t& p : prompt.rope_positions) p -= tokens;
  for (auto* images : {&prompt.images, &prompt.cross_images}) {
    for (PromptImage& image : *images) image.position -= tokens;
  }
  prompt.names.clear();
}

Prompt join_prompts(const Prompt& before, Prompt after) {
  Prompt out = before;
  const size_t length = before.tokens.size();
  join_rope(out, after, length);
  join_spans(out, after, length);
  join_cross(out, after, length);
  if (!out.modality.empty() || !after.modality.empty()) {
    fill(out.modality, length, text_row);
    fill(after.modality, after.tokens.size(), text_row);
    append(out.modality, after.modality);
  }
  for (PromptImage& image : after.images) image.position += static_cast<int32_t>(length);
  append(out.images, after.images);
  append(out.tokens, after.tokens);
  return out;
}

void append_output(Prompt& prompt, std::span<const int32_t> output) {
  prompt.tokens.insert(prompt.tokens.end(), output.begin(), output.end());
  const size_t length = prompt.tokens.size();
  const int32_t delta = prompt.rope_delta;
  if (!prompt.rope_positions.empty()) {
    fill(prompt.rope_positions, 3 * length, [&](size_t i) { return plain_rope(i) + delta; });
  }
  if (!prompt.span_ends.empty()) fill(prompt.span_ends, length, plain_span);
  if (!prompt.modality.empty()) fill(prompt.modality, length, text_row);
  if (!prompt.cross.empty()) {
    const CrossRows last = prompt.cross.back();
    fill(prompt.cross, length, [&](size_t) { return last; });
  }
}

void shorten_prompt(Prompt& prompt, int32_t tokens) {
  const auto length = static_cast<size_t>(tokens);
  const auto cut = [](auto& list, size_t to) {
    if (list.size() > to) list.resize(to);
  };
  cut(prompt.tokens, length);
  cut(prompt.modality, length);
  cut(prompt.span_ends, length);
  cut(prompt.cross, length);
  cut(prompt.rope_positions, 3 * length);
  prompt.names.clear();
  std::erase_if(prompt.images, [&](const PromptImage& i) { return i.position + i.rows > tokens; });
  std::erase_if(prompt.cross_images, [&](const PromptImage& i) { return i.position >= tokens; });
  prompt.cross_rows = 0;
  for (const PromptImage& image : prompt.cross_images) prompt.cross_rows += image.rows;
  if (prompt.rope_positions.empty()) {
    prompt.rope_delta = 0;
  } else {
    const auto furthest = std::max_element(prompt.rope_positions.begin(), prompt.rope_positions.end());
    prompt.rope_delta = *furthest + 1 - tokens;
  }
}

}  // namespace troupe::engine
