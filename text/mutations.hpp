// For tests: the fields of a JSON file, and what they must not be.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace troupe::text {

// Paths to the fields of an object and of the objects inside it; of a list, and of an object with very
// many keys (a vocabulary), the first two stand for all.
inline void collect_fields(const nlohmann::ordered_json& value, const nlohmann::ordered_json::json_pointer& at,
                           std::vector<nlohmann::ordered_json::json_pointer>& out) {
  if (!at.empty()) out.push_back(at);
  size_t left = value.is_array() || value.size() > 64 ? 2 : value.size();
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      if (left-- == 0) break;
      collect_fields(item, at / key, out);
    }
  } else if (value.is_array()) {
    for (size_t i = 0; i < std::min(left, value.size()); ++i) collect_fields(value[i], at / i, out);
  }
}

inline const std::vector<nlohmann::ordered_json>& wrong_values() {
  using json = nlohmann::ordered_json;
  static const std::vector<json> values = {
      nullptr, true, "", "nonsense", -1, 0, 1, 7, 1LL << 31, 1LL << 40, 1.5, -0.5, 1e300,
      json::array(), json::array({"x"}), json::array({-1, 1 << 30}), json::object(),
      json::object({{"a", 1}}), json::array({json::array({json::array()})}),
      std::numeric_limits<uint64_t>::max()};
  return values;
}

}  // namespace troupe::text
