#include "base/json_value.hpp"

#include <nlohmann/json.hpp>

namespace troupe {
namespace {

template <class Json>
Result<Json> parse_within(std::string_view text, int depth_max) {
  using Event = typename Json::parse_event_t;
  struct TooDeep {};
  const auto bounded = [&](int depth, Event event, Json&) {
    if (depth >= depth_max && (event == Event::object_start || event == Event::array_start)) throw TooDeep();
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), bounded);
  } catch (const TooDeep&) {
    return corrupt_model("is nested deeper than " + std::to_string(depth_max) + " levels");
  } catch (const nlohmann::json::exception& e) {
    const std::string why = e.what();  // "[json.exception.parse_error.101] parse error at line …"
    const size_t at = why.find("] ");
    return corrupt_model("is not JSON: " + (at == std::string::npos ? why : why.substr(at + 2)));
  }
}

}  // namespace

Result<nlohmann::json> parse_json(std::string_view text, int depth_max) {
  return parse_within<nlohmann::json>(text, depth_max);
}

Result<nlohmann::ordered_json> parse_ordered_json(std::string_view text, int depth_max) {
  return parse_within<nlohmann::ordered_json>(text, depth_max);
}

std::string shown(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list of " + std::to_string(value.size());
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace troupe
