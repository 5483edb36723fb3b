// Where the pictures of a prompt stand among its tokens, and what the model must be told about rows:
// which take embeddings, rope positions, weights by modality, attention both ways, encoder rows.
//
// Pure functions of the tokens (placeholders already expanded) and of what Processor::layout() said.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "vision/eyes.hpp"
#include "vision/processor.hpp"

namespace troupe::vision {

// Tokens [position, position + rows) take the rows of picture `image` from `source_row` on.
struct Place {
  int32_t image = 0;
  int32_t position = 0;
  int32_t rows = 0;
  int32_t source_row = 0;
  bool operator==(const Place&) const = default;
};

// The encoder rows that a token's cross-attention sees: [begin, end) of all pictures' rows, one
// picture after the other. Begin -1: a token before the first picture, which in transformers'
// Mllama looks at all rows but passes the gated feed-forwards by.
struct CrossSpan {
  int32_t begin = 0, end = 0;
  bool operator==(const CrossSpan&) const = default;
};

// Lists have one entry per token (rope_positions three), or none where the family needs none.
struct PromptPlaces {
  std::vector<Place> places;            // in order; empty when pictures are seen by cross-attention
  std::vector<int32_t> rope_positions;  // time, height, width
  int32_t rope_delta = 0;               // token n behind the prompt has rope position n + rope_delta
  std::vector<uint8_t> modality;        // 1: vision
  std::vector<int32_t> span_ends;       // exclusive end of what a token may see, in positions
  std::vector<CrossSpan> cross;
  int32_t cross_rows = 0;               // of all pictures together
};

// The failure says how many tokens the prompt has for pictures, and how many it should have.
Result<PromptPlaces> lay_out_prompt(const PromptRules& rules, std::span<const int32_t> tokens,
                                    std::span<const PictureLayout> pictures);

}  // namespace troupe::vision
