#include "openai/error.hpp"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <utility>

#include "capi/troupe.h"

namespace troupe::openai {
namespace {

struct Mapping {
  int32_t code;
  int status;
  const char* type;
};
constexpr Mapping kMappings[] = {
    {TROUPE_ERROR_INVALID, 400, "invalid_request_error"},
    {TROUPE_ERROR_LIMIT, 400, "invalid_request_error"},
    {TROUPE_ERROR_OVERLOADED, 429, "rate_limit_error"},
    {TROUPE_ERROR_DEADLINE, 504, "timeout_error"},
    {TROUPE_ERROR_CANCELLED, 499, "cancelled_error"},
    {TROUPE_ERROR_NOT_FOUND, 404, "not_found_error"},
    {TROUPE_ERROR_UNSUPPORTED, 400, "invalid_request_error"},
    {TROUPE_ERROR_UNAUTHORISED, 401, "authentication_error"},
    {TROUPE_ERROR_DEVICE_FAILED, 503, "server_error"},
    {TROUPE_ERROR_CONNECTION_LOST, 503, "server_error"},
    {TROUPE_ERROR_CLOSED, 503, "server_error"},
};

}  // namespace

ApiError bad_field(std::string param, std::string message) {
  ApiError error;
  error.param = std::move(param);
  error.message = std::move(message);
  error.code = "invalid";
  return error;
}

ApiError from_code(int32_t troupe_code, std::string message) {
  ApiError error;
  error.status = 500;
  error.type = "server_error";
  for (const Mapping& m : kMappings) {
    if (m.code == troupe_code) {
      error.status = m.status;
      error.type = m.type;
    }
  }
  error.message = std::move(message);
  error.code = troupe_error_name(troupe_code);
  std::transform(error.code.begin(), error.code.end(), error.code.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return error;
}

nlohmann::json to_json(const ApiError& error) {
  const auto or_null = [](const std::string& s) {
    return s.empty() ? nlohmann::json(nullptr) : nlohmann::json(s);
  };
  return {{"error",
           {{"message", error.message},
            {"type", error.type},
            {"param", or_null(error.param)},
            {"code", or_null(error.code)}}}};
}

}  // namespace troupe::openai
