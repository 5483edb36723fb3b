// What preprocessor_config.json (or processor_config.json) says, checked; the families' defaults
// stand where it says nothing, as in transformers.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "base/status.hpp"
#include "models/config.hpp"
#include "vision/patchify.hpp"
#include "vision/processor.hpp"
#include "vision/resample.hpp"

namespace troupe::vision {

// The files of a model folder that a processor is made of. Absent ones are empty objects.
struct ProcessorFiles {
  models::Fields model;  // config.json
  models::Fields image;  // preprocessor_config.json, or image_processor of processor_config.json
  models::Fields video;  // video_preprocessor_config.json, likewise
  models::Fields processor;  // processor_config.json
  models::Fields tokenizer;  // tokenizer_config.json
  uint64_t hash = 0;  // of all their bytes that count

  static Result<ProcessorFiles> read(const std::string& folder);
  // The problem of any of them.
  [[nodiscard]] Status status() const;
  // The text of a token that tokenizer_config.json names ("image_token"), else `otherwise`.
  [[nodiscard]] std::string token(std::string_view key, std::string_view otherwise) const;
};

// `size` or `crop_size`: a number, or an object of some of these.
struct Sizes {
  std::optional<int32_t> shortest, longest, height, width;
};

struct Defaults {
  Filter filter = Filter::bicubic;
  std::array<double, 3> mean{0.48145466, 0.4578275, 0.40821073};  // OpenAI's CLIP
  std::array<double, 3> std{0.26862954, 0.26130258, 0.27577711};
};
inline constexpr Defaults kClipDefaults{};
inline constexpr Defaults kHalfDefaults{Filter::bicubic, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};
inline constexpr Defaults kImageNetDefaults{
    Filter::bicubic, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}};

inline constexpr int32_t kSideMax = 1 << 16;  // of a resized picture or tile

inline constexpr int64_t kRowsMax = 1 << 20;  // that a tile becomes

// A number of rows that follows from `key`; one that no encoder could take is refused by that name.
int32_t checked_rows(const models::Fields& fields, std::string_view key, int64_t rows);
Sizes read_sizes(const models::Fields& fields, std::string_view key);
Filter read_filter(const models::Fields& fields, Filter otherwise);
// do_rescale, rescale_factor, do_normalize, image_mean, image_std.
Normalise read_normalise(const models::Fields& fields, const Defaults& defaults);
// Refuses a switch that is not as the family has it.
void require_switch(const models::Fields& fields, std::string_view key, bool wanted,
                    bool otherwise);

}  // namespace troupe::vision
