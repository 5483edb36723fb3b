// A prompt as the scheduler has it: ids, where pictures stand among them, and what the model must be
// told about rows. Lists have one entry per token (rope_positions three) or none at all.
//
// A session's content is such a prompt too: it is continued, extended by what was said, cut back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/block_key.hpp"
#include "engine/embedding.hpp"

namespace troupe::engine {

// Rows [position, position + rows) are replaced by rows of an embedding. A picture whose rows are
// interrupted by text stands here once per run.
struct PromptImage {
  uint64_t embedding = 0;  // equal for equal pictures
  BlockKey content;        // of the picture and its processing: part of the block keys
  int32_t position = 0;
  int32_t rows = 0;
  int32_t source_row = 0;  // of the embedding; seen by cross-attention: first of the encoder rows
  bool ready = true;       // false: rows from here on wait for Scheduler::embedding_ready()
  bool gone = false;       // nobody will make it ready: a session had to give it up
  EmbeddingPtr data;       // simulations have none
};

// The encoder rows that a token's cross-attention sees: [begin, end) of all pictures' rows.
struct CrossRows {
  int32_t begin = 0, end = 0;
};

struct Prompt {
  std::vector<int32_t> tokens;
  std::vector<BlockKey> names;            // of its full blocks: name_blocks() has been here, …
  BlockKey names_root;                    // … began with this …
  int32_t names_tokens = 0;               // … and took so many tokens for a block
  std::vector<PromptImage> images;        // in order of position
  std::vector<PromptImage> cross_images;  // seen by cross-attention: `rows` are encoder rows
  std::vector<uint8_t> modality;          // 1: vision
  std::vector<int32_t> rope_positions;    // time, height, width (M-RoPE)
  std::vector<int32_t> span_ends;         // exclusive end of what a token may see, in positions
  std::vector<CrossRows> cross;
  int32_t rope_delta = 0;                 // added to the position of generated tokens
  int32_t cross_rows = 0;                 // of all pictures together

  // Nothing but tokens.
  [[nodiscard]] bool is_plain() const {
    return images.empty() && cross_images.empty() && modality.empty() && rope_positions.empty() &&
           span_ends.empty() && cross.empty();
  }
  [[nodiscard]] int32_t length() const { return static_cast<int32_t>(tokens.size()); }
  // The most rows of [begin, begin + rows) that cut no span of attention both ways in two.
  [[nodiscard]] int32_t whole_spans(int32_t begin, int32_t rows) const;
  [[nodiscard]] int32_t longest_span() const;
  // Rows from `begin` on that may be computed before a picture is waited for.
  [[nodiscard]] int32_t rows_ready(int32_t begin, int32_t rows) const;
  // Is a picture that nobody will make ready seen by rows from `begin` on?
  [[nodiscard]] bool misses_picture(int32_t begin) const;
};

// Names its full blocks, so that the scheduler need not: worth while for long prompts. With another
// root or block size than the scheduler's it is done for nothing; with pictures it is not done.
void name_blocks(Prompt& prompt, const BlockKey& root, int32_t block_tokens);
// What a block of `tokens` that begins at position `begin` of the prompt holds.
[[nodiscard]] BlockKey content_of(const Prompt& prompt, int32_t begin, std::span<const int32_t> tokens);
// The first `tokens`, which are no picture's, go.
void drop_front(Prompt& prompt, int32_t tokens);
// `after` goes on where `before` ends.
[[nodiscard]] Prompt join_prompts(const Prompt& before, Prompt after);
// What was said becomes part of it.
void append_output(Prompt& prompt, std::span<const int32_t> output);
// Only the first `tokens` stay. Pictures that would be cut go whole.
void shorten_prompt(Prompt& prompt, int32_t tokens);

}  // namespace troupe::engine
