#include "vision/prompt.hpp"

#include <algorithm>
#include <string>

namespace troupe::vision {
namespace {

int64_t image_tokens(const PromptRules& rules, std::span<const int32_t> tokens) {
  return std::count(tokens.begin(), tokens.end(), rules.image_token);
}

Status check_counts(const PromptRules& rules, std::span<const int32_t> tokens,
                    std::span<const PictureLayout> pictures) {
  const auto count = static_cast<int32_t>(pictures.size());
  if (rules.images_max > 0 && count > rules.images_max) {
    return limit_exceeded("the prompt has " + std::to_string(count) +
                          " pictures, this model takes at most " +
                          std::to_string(rules.images_max));
  }
  int64_t wanted = count;
  if (rules.sight != Sight::cross) {
    wanted = 0;
    for (const PictureLayout& p : pictures) wanted += p.rows;
  }
  for (const PictureLayout& p : pictures) {
    const int64_t grid = int64_t{p.rope_frames} * p.rope_rows * p.rope_columns;
    if (rules.rope != SightRope::grid || grid == p.rows) continue;
    return internal_error("a picture of " + std::to_string(p.rows) + " rows has a rope grid of " +
                          std::to_string(grid));
  }
  const int64_t found = image_tokens(rules, tokens);
  if (found == wanted) return ok_status();
  return invalid("the prompt has " + std::to_string(found) + " image tokens (id " +
                 std::to_string(rules.image_token) + "), its " + std::to_string(count) +
                 " pictures want " + std::to_string(wanted) +
                 "; let each picture stand in the prompt once, and the image token nowhere else");
}

// Runs of image tokens; a picture's rows may be cut into several by text between its tiles.
std::vector<Place> find_places(const PromptRules& rules, std::span<const int32_t> tokens,
                               std::span<const PictureLayout> pictures) {
  std::vector<Place> out;
  int32_t image = 0, row = 0;
  bool running = false;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] != rules.image_token) {
      running = false;
      continue;
    }
    while (row == pictures[static_cast<size_t>(image)].rows) {
      ++image;
      row = 0;
      running = false;
    }
    if (!running) out.push_back({image, static_cast<int32_t>(i), 0, row});
    running = true;
    ++out.back().rows;
    ++row;
  }
  return out;
}

// M-RoPE: text counts on in all three; a picture's rows span its grid from where the text stands,
// and text goes on behind the grid's longer side.
void lay_grids(std::span<const int32_t> tokens, std::span<const PictureLayout> pictures,
               PromptPlaces& out) {
  const auto count = static_cast<int32_t>(tokens.size());
  out.rope_positions.reserve(3 * tokens.size());
  int32_t next = 0, furthest = -1;
  size_t place = 0;
  const auto put = [&](int32_t time, int32_t height, int32_t width) {
    out.rope_positions.insert(out.rope_positions.end(), {time, height, width});
    furthest = std::max({furthest, time, height, width});
  };
  for (int32_t i = 0; i < count;) {
    if (place == out.places.size() || out.places[place].position != i) {
      put(next, next, next);
      ++next;
      ++i;
      continue;
    }
    const Place& p = out.places[place++];
    const PictureLayout& picture = pictures[static_cast<size_t>(p.image)];
    const int32_t area = picture.rope_rows * picture.rope_columns;
    for (int32_t row = p.source_row; row < p.source_row + p.rows; ++row, ++i) {
      const int32_t inside = row % area;
      put(next + row / area, next + inside / picture.rope_columns,
          next + inside % picture.rope_columns);
    }
    next += std::max(picture.rope_rows, picture.rope_columns);
  }
  out.rope_delta = furthest + 1 - count;
}

void lay_shared(std::span<const int32_t> tokens, PromptPlaces& out) {
  out.rope_positions.reserve(3 * tokens.size());
  int32_t next = 0;
  size_t place = 0;
  for (int32_t i = 0; i < static_cast<int32_t>(tokens.size()); ++i) {
    while (place < out.places.size() &&
           i >= out.places[place].position + out.places[place].rows) {
      ++place;
    }
    const Place* p = place < out.places.size() ? &out.places[place] : nullptr;
    const bool first_inner = p != nullptr && i == p->position + 1;
    const bool inner = p != nullptr && i > p->position && i + 1 < p->position + p->rows;
    if (i > 0 && (!inner || first_inner)) ++next;
    out.rope_positions.insert(out.rope_positions.end(), {next, next, next});
  }
  out.rope_delta = next + 1 - static_cast<int32_t>(tokens.size());
}

// A row goes through the vision weights when it and the next are image rows: the last is text.
void mark_experts(size_t tokens, PromptPlaces& out) {
  out.modality.assign(tokens, 0);
  for (const Place& p : out.places) {
    std::fill_n(out.modality.begin() + p.position, p.rows - 1, uint8_t{1});
  }
}

void mark_spans(size_t tokens, PromptPlaces& out) {
  out.span_ends.resize(tokens);
  for (size_t i = 0; i < tokens; ++i) out.span_ends[i] = static_cast<int32_t>(i) + 1;
  for (const Place& p : out.places) {
    std::fill_n(out.span_ends.begin() + p.position, p.rows, p.position + p.rows);
  }
}

// A token sees the last picture before it; pictures that stand side by side are seen together.
void lay_cross(const PromptRules& rules, std::span<const int32_t> tokens,
               std::span<const PictureLayout> pictures, PromptPlaces& out) {
  out.cross.resize(tokens.size());
  for (const PictureLayout& p : pictures) out.cross_rows += p.rows;
  CrossSpan seen{-1, out.cross_rows};
  int32_t begin = 0;
  size_t image = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == rules.image_token) {
      const bool beside = i > 0 && tokens[i - 1] == rules.image_token;
      const PictureLayout& picture = pictures[image++];
      seen.begin = beside ? seen.begin : begin;
      seen.end = begin + (picture.shown > 0 ? picture.shown : picture.rows);
      begin += picture.rows;
    }
    out.cross[i] = seen;
  }
}

}  // namespace

Result<PromptPlaces> lay_out_prompt(const PromptRules& rules, std::span<const int32_t> tokens,
                                    std::span<const PictureLayout> pictures) {
  PromptPlaces out;
  TR_TRY(check_counts(rules, tokens, pictures));
  if (pictures.empty()) return out;
  if (rules.sight == Sight::cross) {
    lay_cross(rules, tokens, pictures, out);
    return out;
  }
  out.places = find_places(rules, tokens, pictures);
  if (rules.rope == SightRope::grid) lay_grids(tokens, pictures, out);
  if (rules.rope == SightRope::shared) lay_shared(tokens, out);
  if (rules.sight == Sight::expert) mark_experts(tokens.size(), out);
  if (rules.sight == Sight::bidirectional) mark_spans(tokens.size(), out);
  return out;
}

}  // namespace troupe::vision
