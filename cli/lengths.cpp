#include "cli/lengths.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/files.hpp"

namespace troupe::cli {
namespace {

using nlohmann::json;

bool is_length(const json& value, int32_t most) {
  // What is beyond the signed ones is unsigned to the parser.
  return value.is_number_integer() &&
         (!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(most)) &&
         value.get<int64_t>() >= 1 && value.get<int64_t>() <= most;
}

bool is_pair(const json& entry, int32_t most) {
  return entry.is_array() && entry.size() == 2 && is_length(entry[0], most) &&
         is_length(entry[1], most);
}

}  // namespace

std::vector<Job> jobs_of_file(const std::string& path, int32_t context, Interrupt& interrupt,
                              Stop& stop) {
  const auto text = read_file(path, interrupt, stop);
  if (!text) return {};
  json list = json::parse(*text, nullptr, false);
  if (list.is_object()) list = list.value("requests", json());
  std::vector<Job> jobs;
  for (const json& entry : list.is_array() ? list : json::array()) {
    if (!is_pair(entry, context)) {
      stop = {kUsage, path + ": entry " + std::to_string(jobs.size()) + " is " +
                          entry.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80) +
                          ": it must be [input, output], whole numbers from 1 to " +
                          std::to_string(context) + ", the model's context"};
      return {};
    }
    jobs.push_back({entry[0].get<int32_t>(), entry[1].get<int32_t>(), 0.0});
  }
  if (jobs.empty()) {
    stop = {kUsage, path +
                        ": must be a JSON list of [input, output] lengths, or an object whose "
                        "\"requests\" is one"};
  }
  return jobs;
}

}  // namespace troupe::cli
