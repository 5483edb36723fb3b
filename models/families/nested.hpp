// The language half of a vision-language config: an object of its own (text_config, llm_config),
// described by the family of its model_type.
#pragma once

#include "models/config.hpp"
#include "models/description.hpp"

namespace troupe::models {

bool has_text_config(const Fields& config);
// The nested object, with what transformers assumes where it is silent: published configs leave out
// what equals the library's defaults. The config itself when nothing is nested.
Fields text_config(const Fields& config);
// Lets the description's tensors be found under the names of vision-language checkpoints, and marks
// it as such a model's half.
void add_nested_names(ModelDescription& out);

}  // namespace troupe::models
