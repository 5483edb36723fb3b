// Errors as OpenAI's API shapes them, and how the codes of troupe.h map to them and to HTTP.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>

namespace troupe::openai {

struct ApiError {
  int status = 400;  // HTTP
  std::string type = "invalid_request_error";
  std::string message;
  std::string param;  // the field that is wrong; empty: none
  std::string code;   // our code's name, in lower case; empty: none
};

// Either what was asked for, or why not.
template <class T>
using Parsed = std::variant<T, ApiError>;

ApiError bad_field(std::string param, std::string message);
ApiError from_code(int32_t troupe_code, std::string message);
// {"error": {"message", "type", "param", "code"}}
nlohmann::json to_json(const ApiError& error);

}  // namespace troupe::openai
