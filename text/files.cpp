#include "text/files.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/limits.hpp"

namespace troupe::text {

bool file_exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

Result<std::string> read_file(const std::string& path, size_t bytes_max) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    return Status(Code::not_found, path + ": no such file");
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return Status(Code::not_found, path + ": " + error.message());
  if (size > bytes_max) {
    return limit_exceeded(path + ": the file has " + std::to_string(size) + " bytes; the limit is " +
                          std::to_string(bytes_max));
  }
  std::string content(static_cast<size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(content.data(), static_cast<std::streamsize>(size))) {
    return Status(Code::not_found, path + ": the file cannot be read");
  }
  return content;
}

Result<nlohmann::json> read_json_object(const std::string& path, size_t bytes_max) {
  TR_ASSIGN(const std::string content, read_file(path, bytes_max));
  // Whoever copies a value goes down as deep as it is, on the stack.
  bool too_deep = false;
  const auto bounded = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep |= depth > limits::json_depth;
    return depth <= limits::json_depth;
  };
  try {
    nlohmann::json parsed = nlohmann::json::parse(content, bounded);
    if (too_deep) {
      return corrupt_model(path + ": nested deeper than " + std::to_string(limits::json_depth) + " levels");
    }
    if (!parsed.is_object()) return corrupt_model(path + ": not a JSON object");
    return parsed;
  } catch (const nlohmann::json::exception& e) {
    return corrupt_model(path + ": not valid JSON: " + e.what());
  }
}

}  // namespace troupe::text
