// One line of OpenAI's batch files: {"custom_id", "method", "url", "body"}, and the line that answers it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "openai/call.hpp"

namespace troupe::openai {

struct BatchLine {
  std::string custom_id;  // empty: the line had none
  Parsed<Call> call;
};

// Never fails: what is wrong with the line stands in its call.
BatchLine parse_batch_line(std::string_view line);

nlohmann::json answer_line(const std::string& custom_id, const std::string& id,
                           const nlohmann::json& body);
nlohmann::json error_line(const std::string& custom_id, const std::string& id,
                          const ApiError& error);

}  // namespace troupe::openai
