// Reading the small text files of a model folder, with a bound on their size. Failures name the file.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/status.hpp"

namespace troupe::text {

[[nodiscard]] bool file_exists(const std::string& path);
// not_found when there is no such file, limit when it is larger than `bytes_max`.
[[nodiscard]] Result<std::string> read_file(const std::string& path, size_t bytes_max);
// A JSON object; corrupt_model when the file holds anything else.
[[nodiscard]] Result<nlohmann::json> read_json_object(const std::string& path, size_t bytes_max);

}  // namespace troupe::text
