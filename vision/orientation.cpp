#include "vision/orientation.hpp"

#include <utility>

#include "vision/turns.hpp"

namespace troupe::vision {

Image turned(Image image, int orientation, const Turns& turns) {
  if (orientation <= 1 || orientation > 8 || image.rgb.empty()) return image;
  // Every orientation is a transposition, or none, and then mirrors.
  struct Moves {
    bool transposes, across, down;
  };
  static constexpr Moves kMoves[9] = {{},
                                      {},
                                      {false, true, false},
                                      {false, true, true},
                                      {false, false, true},
                                      {true, false, false},
                                      {true, true, false},
                                      {true, true, true},
                                      {true, false, true}};
  const Moves& moves = kMoves[orientation];
  if (moves.transposes) image = turns.transposed(image);
  turns.mirror(image, moves.across, moves.down);
  return image;
}

Image upright(Image image, int orientation) {
#ifdef TROUPE_OPENCV
  return turned(std::move(image), orientation, kOpenCvTurns);
#else
  return turned(std::move(image), orientation, kPlainTurns);
#endif
}

}  // namespace troupe::vision
