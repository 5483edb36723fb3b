// data: URLs, the only ones that are ever opened: "data:image/png;base64,...".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::openai {

// The bytes, or nothing when it is no base64 data: URL or its payload is damaged.
std::optional<std::vector<unsigned char>> bytes_of_data_url(std::string_view url);

}  // namespace troupe::openai
