// The text side of `echo:`, where a byte is a token.
#pragma once

#include <memory>

#include "actors/text_house.hpp"

namespace troupe::actors {

std::shared_ptr<const TextHouse> make_echo_house();

}  // namespace troupe::actors
