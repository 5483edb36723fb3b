// JSON that others wrote: read within a depth, because whoever copies, prints or drops a value goes down
// as deep as it is, on the stack. And a value as an error shows it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/limits.hpp"
#include "base/status.hpp"

namespace troupe {

// Of a request's messages: as deep as the reader of text models (serde_json) goes.
inline constexpr int kMessageDepth = 128;

// Code::corrupt_model with a message that goes on a name: "is not JSON: parse error at line 3 …", "is nested
// deeper than 32 levels". Any value, not only objects.
[[nodiscard]] Result<nlohmann::json> parse_json(std::string_view text, int depth_max = limits::json_depth);
// The same, with the fields of objects in the order of the text.
[[nodiscard]] Result<nlohmann::ordered_json> parse_ordered_json(std::string_view text, int depth_max);

// Short, whatever the value is: "an object", "a list of 3", "\"text that goes on and on...".
[[nodiscard]] std::string shown(const nlohmann::json& value);

}  // namespace troupe
