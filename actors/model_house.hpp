// The text side of a model folder: its tokenizer and its chat template.
#pragma once

#include <memory>
#include <string>

#include "actors/text_house.hpp"

namespace troupe::actors {

// `placeholder`: what stands for a picture in text; empty for models without eyes.
// `chat_template`: name or file; empty: the folder's own, else its family's. A folder without one
// still opens; only chat is refused, with the reason.
Result<std::shared_ptr<const TextHouse>> open_model_house(const std::string& folder,
                                                          const std::string& chat_template,
                                                          const std::string& placeholder = {});

}  // namespace troupe::actors
