#include "openai/batch_line.hpp"

#include <nlohmann/json.hpp>

namespace troupe::openai {
namespace {

using nlohmann::json;

// As deep as an engine reads a request's messages. This room stands on troupe.h, which has no name for it.
constexpr int kDepthMax = 128;

Parsed<Call> call_of(const json& line) {
  const json method = line.value("method", json("POST"));
  if (method != "POST") return bad_field("method", "'method' must be POST");
  const json url = line.value("url", json());
  const bool completions = url == "/v1/completions";
  if (!completions && url != "/v1/chat/completions") {
    return bad_field("url", "'url' must be /v1/completions or /v1/chat/completions, not " +
                                url.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 80));
  }
  if (!line.contains("body")) return bad_field("body", "'body' is missing");
  return parse_call(completions ? Endpoint::completions : Endpoint::chat, line["body"]);
}

}  // namespace

BatchLine parse_batch_line(std::string_view text) {
  // Whoever copies or prints a value goes down as deep as it is, on the stack.
  bool too_deep = false;
  const auto bounded = [&](int depth, json::parse_event_t, json&) {
    too_deep |= depth > kDepthMax;
    return depth <= kDepthMax;
  };
  const json line = json::parse(text, bounded, false);
  if (too_deep) {
    return {"", bad_field("line", "the line is nested deeper than " + std::to_string(kDepthMax) + " levels")};
  }
  if (line.is_discarded()) return {"", bad_field("line", "the line is not JSON")};
  if (!line.is_object()) return {"", bad_field("line", "the line is not a JSON object")};
  const json id = line.value("custom_id", json());
  if (!id.is_string() || id.get_ref<const std::string&>().empty()) {
    return {"", bad_field("custom_id", "'custom_id' must be a string that is not empty")};
  }
  return {id.get<std::string>(), call_of(line)};
}

json answer_line(const std::string& custom_id, const std::string& id, const json& body) {
  return {{"id", id},
          {"custom_id", custom_id},
          {"response", {{"status_code", 200}, {"request_id", id}, {"body", body}}},
          {"error", nullptr}};
}

json error_line(const std::string& custom_id, const std::string& id, const ApiError& error) {
  return {{"id", id},
          {"custom_id", custom_id.empty() ? json(nullptr) : json(custom_id)},
          {"response",
           {{"status_code", error.status}, {"request_id", id}, {"body", to_json(error)}}},
          {"error", {{"code", error.code}, {"message", error.message}}}};
}

}  // namespace troupe::openai
