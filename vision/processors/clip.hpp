// What CLIP's processor is told: LLaVA-1.5 and LLaVA-NeXT share it.
#pragma once

#include <optional>
#include <string>

#include "vision/processors/recipe.hpp"
#include "vision/processors/settings.hpp"

namespace troupe::vision {

struct ClipSettings {
  Drawing drawing;
  bool resize = true;
  Sizes size;  // a shortest edge, or both width and height
  Size crop{224, 224};
  std::optional<Colour> square;  // padded to a square of this colour first
  int32_t class_rows = 0;  // embedding rows of a tile beyond its patches
  int32_t rows = 0;  // of a tile
  std::string image_token;
};

ClipSettings read_clip(const ProcessorFiles& files);

}  // namespace troupe::vision
