// The two moves of which every orientation is made: by OpenCV where it is built in, else by our own
// loops. The same bytes either way.
#pragma once

#include "vision/image.hpp"

namespace troupe::vision {

struct Turns {
  Image (*transposed)(Image& image);
  void (*mirror)(Image& image, bool across, bool down);
};

extern const Turns kPlainTurns;
#ifdef TROUPE_OPENCV
extern const Turns kOpenCvTurns;
#endif

// As upright() does it with one of them.
Image turned(Image image, int orientation, const Turns& turns);

}  // namespace troupe::vision
