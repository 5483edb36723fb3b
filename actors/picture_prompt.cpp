#include "actors/picture_prompt.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/limits.hpp"
#include "vision/prompt.hpp"

namespace troupe::actors {
namespace {

// What a picture takes while it is in work: its pixels, twice (a resized copy), and its tiles' values.
constexpr int64_t kPixelBytes = 6;
constexpr int64_t kPatchBytes = 1536 * 4;
// Rows that are given need no arithmetic, and share no call with tiles.
constexpr engine::TileWork kAdopted = {0.0, int64_t{1} << 40};

std::string nth(size_t i) { return "images[" + std::to_string(i) + "]"; }

uint64_t salt_of(const std::string& client) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const char c : client) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
  return client.empty() ? 0 : hash;
}

// Of the picture's bytes and all that says how to read them, of its processing, and of the tenant.
engine::BlockKey content_key(const ImageInput& image, const Eyes& eyes, uint64_t salt) {
  const std::array<int64_t, 12> form = {
      static_cast<int64_t>(eyes.folder->processor().hash()), static_cast<int64_t>(salt),
      static_cast<int64_t>(image.kind), image.width, image.height,
      static_cast<int64_t>(image.format) << 8 | static_cast<int64_t>(image.layout), image.row_stride,
      image.rows, static_cast<int64_t>(image.type), image.grid[0], image.grid[1], image.grid[2]};
  const engine::BlockKey seed = engine::bytes_key(eyes.seed, std::as_bytes(std::span(form)));
  return engine::bytes_key(seed, {image.bytes.data, image.bytes.size});
}

// The text around the image tokens that this family puts for any picture: rows that a caller gives
// stand in it like those of a picture.
Result<std::string> text_of_rows(const ImageInput& image, const EncodeParts& parts) {
  const vision::PromptRules& rules = parts.eyes->folder->rules();
  if (rules.sight == vision::Sight::cross) return rules.placeholder;
  TR_ASSIGN(const std::string token, parts.text->decode(std::span(&rules.image_token, 1), false));
  std::string before, after;
  if (const auto sample = parts.eyes->folder->processor().layout(448, 448); sample.ok()) {
    const size_t first = sample->prompt.find(token), last = sample->prompt.rfind(token);
    if (first != std::string::npos) {
      before = sample->prompt.substr(0, first);
      after = sample->prompt.substr(last + token.size());
    }
  }
  std::string text = before;
  for (int32_t i = 0; i < image.rows; ++i) text += token;
  return text + after;
}

Status adopt_rows(const ImageInput& image, const EncodeParts& parts, Picture& picture) {
  const vision::PromptRules& rules = parts.eyes->folder->rules();
  if (image.hidden != rules.hidden) {
    return invalid("hidden is " + std::to_string(image.hidden) + ", and this model's rows have " +
                   std::to_string(rules.hidden));
  }
  const bool grid = rules.rope == vision::SightRope::grid;
  if (grid && image.grid[0] * image.grid[1] * image.grid[2] != image.rows) {
    return invalid("this model's positions follow a picture's grid: give grid as time, height, width in "
                   "merged patches, " + std::to_string(image.rows) + " in all");
  }
  vision::PictureLayout& layout = picture.layout;
  layout.rows = image.rows;
  layout.tiles = {{1, 1, 1}};
  layout.rope_frames = grid ? image.grid[0] : 0;
  layout.rope_rows = grid ? image.grid[1] : 0;
  layout.rope_columns = grid ? image.grid[2] : 0;
  TR_ASSIGN(layout.prompt, text_of_rows(image, parts));
  picture.work.tiles = {kAdopted};
  picture.work.joins = false;
  picture.work.work_bytes = static_cast<int64_t>(image.bytes.size);
  return {};
}

Status measure(const ImageInput& image, const Eyes& eyes, Picture& picture) {
  TR_ASSIGN(const vision::ImageHeader header, eyes.source.measure(image));
  const int64_t pixels = int64_t{header.width} * header.height;
  if (pixels > eyes.pixels_max) {
    return limit_exceeded(std::to_string(header.width) + " x " + std::to_string(header.height) +
                          " pixels, the limit is " + std::to_string(eyes.pixels_max) + " in all");
  }
  TR_ASSIGN(picture.layout, eyes.folder->processor().layout(header.width, header.height));
  picture.layout.width = header.width;
  picture.layout.height = header.height;
  const int64_t patches_max = eyes.patches_max->load(std::memory_order_relaxed);
  int64_t patches = 0;
  for (const vision::PatchGrid& grid : picture.layout.tiles) {
    if (grid.patches() > patches_max) {
      return limit_exceeded("a tile of " + std::to_string(grid.patches()) +
                            " patches, and the memory plan of the encoder has room for " +
                            std::to_string(patches_max) + "; send a smaller picture");
    }
    patches += grid.patches();
    picture.work.tiles.push_back({eyes.folder->cost(grid), grid.patches()});
  }
  picture.work.joins = eyes.folder->joins(picture.layout);
  picture.work.work_bytes = pixels * kPixelBytes + patches * kPatchBytes;
  return {};
}

Result<std::vector<Picture>> look(const Request& request, const EncodeParts& parts) {
  const Eyes& eyes = *parts.eyes;
  const uint64_t salt = salt_of(request.client);
  std::vector<Picture> pictures(request.images.size());
  for (size_t i = 0; i < pictures.size(); ++i) {
    const ImageInput& image = request.images[i];
    Picture& picture = pictures[i];
    const Status status = image.kind == ImageKind::embedding ? adopt_rows(image, parts, picture)
                                                             : measure(image, eyes, picture);
    if (!status.ok()) return status.at(nth(i));
    picture.input = image;
    picture.work.content = content_key(image, eyes, salt);
    picture.work.embedding_bytes = picture.layout.rows * eyes.row_bytes;
  }
  return pictures;
}

void take_places(const vision::PromptPlaces& places, const std::vector<Picture>& pictures,
                 int32_t image_token, engine::Prompt& prompt) {
  const auto image_of = [&](size_t index) {
    engine::PromptImage image;
    image.embedding = index;
    image.content = pictures[index].work.content;
    image.ready = false;
    return image;
  };
  for (const vision::Place& place : places.places) {
    engine::PromptImage image = image_of(static_cast<size_t>(place.image));
    image.position = place.position;
    image.rows = place.rows;
    image.source_row = place.source_row;
    prompt.images.push_back(std::move(image));
  }
  prompt.rope_positions = places.rope_positions;
  prompt.rope_delta = places.rope_delta;
  prompt.modality = places.modality;
  prompt.span_ends = places.span_ends;
  prompt.cross_rows = places.cross_rows;
  if (places.cross.empty()) return;
  for (const vision::CrossSpan& c : places.cross) prompt.cross.push_back({c.begin, c.end});
  int32_t row = 0;
  for (size_t p = 0; p < prompt.tokens.size(); ++p) {
    if (prompt.tokens[p] != image_token) continue;
    engine::PromptImage image = image_of(prompt.cross_images.size());
    image.position = static_cast<int32_t>(p);
    image.rows = pictures[prompt.cross_images.size()].layout.rows;
    image.source_row = row;
    row += image.rows;
    prompt.cross_images.push_back(std::move(image));
  }
}

}  // namespace

Status read_prompt(Order& order, const EncodeParts& parts) {
  Request& request = order.request;
  const auto tokens_most = static_cast<size_t>(parts.facts.context_length);
  if (parts.eyes == nullptr) {
    TR_ASSIGN(HousePrompt prompt, parts.text->prompt(request, {}, tokens_most));
    order.job.prompt.tokens = std::move(prompt.ids);
    return {};
  }
  const vision::PromptRules& rules = parts.eyes->folder->rules();
  TR_ASSIGN(std::vector<Picture> pictures, look(request, parts));
  if (request.task == Task::encode_image) {
    order.sight = std::make_shared<Sight>(Sight{std::move(pictures), true});
    return {};
  }
  PictureText text{rules.placeholder, rules.image_token, {}, {}};
  for (const Picture& p : pictures) {
    text.expanded.push_back(p.layout.prompt);
    text.tokens.push_back(rules.sight == vision::Sight::cross ? 1 : p.layout.rows);
  }
  TR_ASSIGN(HousePrompt prompt, parts.text->prompt(request, text, tokens_most));
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (std::find(prompt.images.begin(), prompt.images.end(), i) != prompt.images.end()) continue;
    return invalid(nth(i) + " was given, and has no place in the prompt");
  }
  std::vector<Picture> placed;
  std::vector<vision::PictureLayout> layouts;
  for (const size_t index : prompt.images) {
    placed.push_back(pictures[index]);
    layouts.push_back(pictures[index].layout);
  }
  TR_ASSIGN(const vision::PromptPlaces places, vision::lay_out_prompt(rules, prompt.ids, layouts));
  order.job.prompt.tokens = std::move(prompt.ids);
  if (placed.empty()) return {};
  take_places(places, placed, rules.image_token, order.job.prompt);
  order.sight = std::make_shared<Sight>(Sight{std::move(placed), false});
  return {};
}

}  // namespace troupe::actors
