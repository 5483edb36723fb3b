// A picture turned and mirrored as EXIF says.
#pragma once

#include "vision/image.hpp"

namespace troupe::vision {

// `orientation` from 1 (as it is) to 8.
Image upright(Image image, int orientation);
// Whether that exchanges width and height.
inline bool lies_on_its_side(int orientation) {
  return orientation >= 5;
}

}  // namespace troupe::vision
