#include "text/files.hpp"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/json_value.hpp"

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
  auto parsed = parse_json(content);
  if (!parsed.ok()) return Status(Code::corrupt_model, path + ": " + parsed.status().message());
  if (!parsed->is_object()) return corrupt_model(path + ": must hold a JSON object, is " + shown(*parsed));
  return parsed;
}

}  // namespace troupe::text
