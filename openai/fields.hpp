// Reads the fields of a JSON object one by one; the first that has the wrong type or is out of range
// is remembered by name, and the reads after it change nothing.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "openai/error.hpp"

namespace troupe::openai {

class Fields {
 public:
  explicit Fields(const nlohmann::json& object) : object_(object) {}

  void read(const char* name, bool& out);
  void read(const char* name, int32_t& out, int64_t least, int64_t most);
  void read(const char* name, int64_t& out, int64_t least, int64_t most);
  void read(const char* name, float& out, double least, double most);
  void read(const char* name, std::string& out);
  void read(const char* name, std::vector<int32_t>& out);
  // A string, or a list of them, for functions of C: without NUL.
  void read_c_strings(const char* name, std::vector<std::string>& out);
  // The value as it stands, or null when it is absent; marks it as known.
  const nlohmann::json* take(const char* name);
  // Marks a field as known though it changes nothing here ("user", "model" …).
  void accept(std::initializer_list<const char*> names);

  void fail(const char* name, const std::string& message);
  [[nodiscard]] const std::optional<ApiError>& error() const { return error_; }
  // After all reads: refuses a field that nobody read.
  void refuse_unknown();

 private:
  const nlohmann::json* find(const char* name);

  const nlohmann::json& object_;
  std::set<std::string> known_;
  std::optional<ApiError> error_;
};

}  // namespace troupe::openai
