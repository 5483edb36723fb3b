// Eyes without arithmetic, for simulations: a picture's "pixels" are its first bytes, its rows say
// which tile of which picture they are. Wrong tiles, a wrong order or another's rows show at once.
#pragma once

#include <memory>
#include <string>

#include "engine/vision_executor.hpp"
#include "vision/decode.hpp"
#include "vision/eyes.hpp"

namespace troupe::engine {

struct FakeEyes {
  vision::Sight sight = vision::Sight::rows;
  std::string placeholder = "\x01";
  int32_t image_token = 1;
  int32_t hidden = 4;
};

// A fake picture's bytes: width, height, and something that makes it itself. Width counts tiles;
// height is the rows that each gives. A width of 255 cannot be decoded.
ImageInput fake_picture(uint8_t width, uint8_t height, uint8_t self);
Result<vision::ImageHeader> measure_fake(const ImageInput& input);
Result<vision::Image> load_fake(const ImageInput& input);

std::shared_ptr<const vision::VisionFolder> fake_vision_folder(const FakeEyes& eyes);
// Row r of tile t of a picture: {self, t, r, tiles of the picture}; joined likewise.
std::unique_ptr<VisionExecutor> fake_vision_executor(const FakeEyes& eyes);

}  // namespace troupe::engine
