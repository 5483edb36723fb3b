#include "openai/fields.hpp"

#include <cmath>
#include <limits>

namespace troupe::openai {
namespace {

std::string range_message(const nlohmann::json& value, double least, double most) {
  return "must be a number from " + nlohmann::json(least).dump() + " to " +
         nlohmann::json(most).dump() + ", not " + value.dump().substr(0, 80);
}

}  // namespace

// Null counts as absent, as it does in OpenAI's clients.
const nlohmann::json* Fields::find(const char* name) {
  known_.insert(name);
  if (error_) return nullptr;
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

const nlohmann::json* Fields::take(const char* name) { return find(name); }

void Fields::accept(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(name);
}

void Fields::fail(const char* name, const std::string& message) {
  if (!error_) error_ = bad_field(name, std::string("'") + name + "' " + message);
}

void Fields::read(const char* name, bool& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_boolean()) {
    fail(name, "must be true or false, not " + value->dump().substr(0, 80));
    return;
  }
  out = value->get<bool>();
}

void Fields::read(const char* name, int64_t& out, int64_t least, int64_t most) {
  const auto* value = find(name);
  if (value == nullptr) return;
  const bool whole = value->is_number_integer() &&
                     !(value->is_number_unsigned() &&
                       value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
  if (!whole || value->get<int64_t>() < least || value->get<int64_t>() > most) {
    fail(name, "must be a whole number from " + std::to_string(least) + " to " +
                   std::to_string(most) + ", not " + value->dump().substr(0, 80));
    return;
  }
  out = value->get<int64_t>();
}

void Fields::read(const char* name, int32_t& out, int64_t least, int64_t most) {
  int64_t wide = out;
  read(name, wide, least, most);
  out = static_cast<int32_t>(wide);
}

void Fields::read(const char* name, float& out, double least, double most) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_number() || !(value->get<double>() >= least) || !(value->get<double>() <= most)) {
    fail(name, range_message(*value, least, most));
    return;
  }
  out = value->get<float>();
}

void Fields::read(const char* name, std::string& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_string()) {
    fail(name, "must be a string");
    return;
  }
  out = value->get<std::string>();
}

void Fields::read(const char* name, std::vector<int32_t>& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_array()) {
    fail(name, "must be a list of token ids");
    return;
  }
  for (const auto& element : *value) {
    if (!element.is_number_integer() || element.get<int64_t>() < 0 ||
        element.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
      fail(name, "must hold token ids, not " + element.dump().substr(0, 80));
      return;
    }
    out.push_back(element.get<int32_t>());
  }
}

void Fields::read_c_strings(const char* name, std::vector<std::string>& out) {
  const auto* value = find(name);
  if (value == nullptr) return;
  if (!value->is_string() && !value->is_array()) {
    fail(name, "must be a string or a list of strings");
    return;
  }
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  for (const auto& element : list) {
    if (!element.is_string()) {
      fail(name, "must hold strings, not " + element.dump().substr(0, 80));
      return;
    }
    // C would read it to there, and take a shorter string for this one.
    if (element.get_ref<const std::string&>().find('\0') != std::string::npos) {
      fail(name, "must not hold the character NUL: " + element.dump(-1, ' ', true).substr(0, 80));
      return;
    }
    out.push_back(element.get<std::string>());
  }
}

void Fields::refuse_unknown() {
  if (error_) return;
  for (const auto& [name, value] : object_.items()) {
    if (known_.count(name) == 0 && !value.is_null()) {
      fail(name.c_str(), "is not a field that this endpoint knows");
      return;
    }
  }
}

}  // namespace troupe::openai
