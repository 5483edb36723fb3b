// What an engine's counters say of pictures, and what one request added to them.
#pragma once

#include <cstdint>

#include "cli/handles.hpp"

namespace troupe::cli {

struct ImageFigures {
  int64_t images = 0;   // given with requests
  int64_t encoded = 0;  // of these, encoded
  int64_t reused = 0;   // and those whose rows were there, or on their way
  double prepare_s = 0.0;  // of threads: decoding, resizing, cutting
  double encode_s = 0.0;   // of devices

  [[nodiscard]] ImageFigures since(const ImageFigures& before) const;
};

// All zero when the engine does not say.
ImageFigures image_figures(troupe_engine* engine);

}  // namespace troupe::cli
