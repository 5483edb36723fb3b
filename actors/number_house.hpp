// The text house of a model without a tokenizer: text is token ids written as numbers. Only dummy
// weights are opened like this, to measure a config.json that came alone.
#pragma once

#include <memory>

#include "actors/text_house.hpp"

namespace troupe::actors {

std::shared_ptr<const TextHouse> make_number_house(int32_t vocab);

}  // namespace troupe::actors
