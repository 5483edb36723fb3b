// The known word nearest to one that was mistyped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace troupe::cli {

// Empty when nothing is near enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace troupe::cli
