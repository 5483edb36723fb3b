#include "models/config.hpp"

#include <cmath>
#include <deque>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/json_value.hpp"
#include "base/limits.hpp"
#include "models/mapped_file.hpp"

namespace troupe::models {

using nlohmann::json;

struct Fields::Document {
  std::string label;
  json root;
  Status failure;
  std::deque<json> merged;  // objects with their defaults
};

namespace {

const json* look(const void* node, std::string_view key) {
  if (node == nullptr) return nullptr;
  const auto& object = *static_cast<const json*>(node);
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string number(double v) {
  if (v == std::floor(v) && std::abs(v) < 1e15) return std::to_string(static_cast<int64_t>(v));
  std::string text = std::to_string(v);
  while (text.back() == '0') text.pop_back();
  return text;
}

// Whole numbers that Python happened to write as floats ("4096.0") are taken too.
std::optional<int64_t> as_integer(const json& v) {
  if (v.is_number_unsigned()) {
    const auto u = v.get<uint64_t>();
    if (u > uint64_t{std::numeric_limits<int64_t>::max()}) return std::nullopt;
    return static_cast<int64_t>(u);
  }
  if (v.is_number_integer()) return v.get<int64_t>();
  if (v.is_number_float()) {
    const auto d = v.get<double>();
    if (std::abs(d) < 9e15 && d == std::floor(d)) return static_cast<int64_t>(d);
  }
  return std::nullopt;
}

}  // namespace

Result<Fields> Fields::parse(std::string_view text, std::string_view label, size_t bytes_max) {
  const auto broken = [&](const std::string& why) {
    return corrupt_model(std::string(label) + ": " + why);
  };
  if (text.size() > bytes_max) {
    return broken("is " + std::to_string(text.size()) + " bytes long, at most " +
                  std::to_string(bytes_max) + " are read");
  }
  if (text.empty()) return broken("is empty; download the folder again");
  auto document = std::make_shared<Document>();
  document->label = label;
  auto parsed = parse_json(text);
  if (!parsed.ok()) return broken(parsed.status().message());
  document->root = *std::move(parsed);
  if (!document->root.is_object()) {
    return broken("must hold a JSON object, is " + shown(document->root));
  }
  const void* root = &document->root;
  return Fields(std::move(document), root, "");
}

Result<Fields> Fields::read(const std::string& path, std::string_view label) {
  TR_ASSIGN(auto file, MappedFile::open(path, label));
  const auto bytes = file->bytes();
  return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, label);
}

bool Fields::has(std::string_view key) const {
  return look(node_, key) != nullptr;
}

bool Fields::is_object(std::string_view key) const {
  const json* v = look(node_, key);
  return v != nullptr && v->is_object();
}

std::vector<std::string> Fields::keys() const {
  std::vector<std::string> out;
  if (node_ == nullptr) return out;
  for (const auto& item : static_cast<const json*>(node_)->items()) out.push_back(item.key());
  return out;
}

std::string_view Fields::either(std::string_view a, std::string_view b) const {
  return !has(a) && has(b) ? b : a;
}

void Fields::fail(std::string_view key, std::string_view problem) const {
  if (!document_->failure.ok()) return;
  document_->failure = corrupt_model(document_->label + ": " + prefix_ + std::string(key) + " " +
                                     std::string(problem));
}

Status Fields::status() const {
  return document_->failure;
}
const std::string& Fields::label() const {
  return document_->label;
}

int64_t Fields::integer(std::string_view key, int64_t low, int64_t high,
                        std::optional<int64_t> fallback) const {
  const json* v = look(node_, key);
  if (v == nullptr) {
    if (!fallback) fail(key, "is missing");
    return fallback.value_or(low);
  }
  const auto value = as_integer(*v);
  if (!value) {
    fail(key, "must be a whole number, is " + shown(*v));
    return low;
  }
  if (*value < low || *value > high) {
    fail(key, "must be from " + std::to_string(low) + " to " + std::to_string(high) + ", is " +
                  shown(*v));
    return low;
  }
  return *value;
}

int32_t Fields::count(std::string_view key, int32_t high, std::optional<int32_t> fallback) const {
  return static_cast<int32_t>(integer(key, 1, high, fallback));
}

double Fields::real(std::string_view key, double low, double high,
                    std::optional<double> fallback) const {
  const json* v = look(node_, key);
  if (v == nullptr) {
    if (!fallback) fail(key, "is missing");
    return fallback.value_or(low);
  }
  if (!v->is_number()) {
    fail(key, "must be a number, is " + shown(*v));
    return low;
  }
  const auto value = v->get<double>();
  if (!(value >= low && value <= high)) {
    fail(key, "must be from " + number(low) + " to " + number(high) + ", is " + shown(*v));
    return low;
  }
  return value;
}

bool Fields::boolean(std::string_view key, std::optional<bool> fallback) const {
  const json* v = look(node_, key);
  if (v == nullptr) {
    if (!fallback) fail(key, "is missing");
    return fallback.value_or(false);
  }
  if (!v->is_boolean()) {
    fail(key, "must be true or false, is " + shown(*v));
    return false;
  }
  return v->get<bool>();
}

std::string Fields::text(std::string_view key, std::optional<std::string> fallback) const {
  const json* v = look(node_, key);
  if (v == nullptr) {
    if (!fallback) fail(key, "is missing");
    return fallback.value_or("");
  }
  if (!v->is_string()) {
    fail(key, "must be text, is " + shown(*v));
    return "";
  }
  return v->get<std::string>();
}

std::vector<int64_t> Fields::integers(std::string_view key, int64_t low, int64_t high) const {
  const json* v = look(node_, key);
  if (v == nullptr) return {};
  if (!v->is_array()) return {integer(key, low, high)};
  std::vector<int64_t> out;
  for (const json& item : *v) {
    const auto value = as_integer(item);
    if (!value || *value < low || *value > high) {
      fail(key, "must hold whole numbers from " + std::to_string(low) + " to " +
                    std::to_string(high) + ", holds " + shown(item));
      return {};
    }
    out.push_back(*value);
  }
  return out;
}

std::vector<std::vector<int64_t>> Fields::integer_rows(std::string_view key, int64_t low,
                                                       int64_t high) const {
  const json* v = look(node_, key);
  if (v == nullptr) return {};
  std::vector<std::vector<int64_t>> out;
  bool fine = v->is_array();
  for (size_t i = 0; fine && i < v->size(); ++i) {
    const json& row = (*v)[i];
    fine = row.is_array();
    auto& numbers = out.emplace_back();
    for (size_t k = 0; fine && k < row.size(); ++k) {
      const auto value = as_integer(row[k]);
      fine = value && *value >= low && *value <= high;
      if (fine) numbers.push_back(*value);
    }
  }
  if (fine) return out;
  fail(key, "must be lists of whole numbers from " + std::to_string(low) + " to " +
                std::to_string(high) + ", is " + shown(*v));
  return {};
}

std::vector<double> Fields::reals(std::string_view key, double low, double high) const {
  const json* v = look(node_, key);
  if (v == nullptr) return {};
  if (!v->is_array()) {
    fail(key, "must be a list of numbers, is " + shown(*v));
    return {};
  }
  std::vector<double> out;
  for (const json& item : *v) {
    const double value = item.is_number() ? item.get<double>() : std::nan("");
    if (!(value >= low && value <= high)) {
      fail(key, "must hold numbers from " + number(low) + " to " + number(high) + ", holds " +
                    shown(item));
      return {};
    }
    out.push_back(value);
  }
  return out;
}

std::vector<std::string> Fields::texts(std::string_view key) const {
  const json* v = look(node_, key);
  if (v == nullptr) return {};
  std::vector<std::string> out;
  bool fine = v->is_array();
  if (fine) {
    for (const json& item : *v) {
      fine = fine && item.is_string();
      if (fine) out.push_back(item.get<std::string>());
    }
  }
  if (!fine) fail(key, "must be a list of texts, is " + shown(*v));
  return fine ? out : std::vector<std::string>();
}

std::vector<std::pair<std::string, std::string>> Fields::text_map(std::string_view key,
                                                                  size_t entries_max) const {
  const json* v = look(node_, key);
  std::vector<std::pair<std::string, std::string>> out;
  if (v == nullptr || !v->is_object()) {
    fail(key, v == nullptr ? "is missing" : "must be an object, is " + shown(*v));
    return out;
  }
  if (v->size() > entries_max) {
    fail(key, "has " + std::to_string(v->size()) + " entries, at most " +
                  std::to_string(entries_max) + " are read");
    return out;
  }
  for (const auto& item : v->items()) {
    if (!item.value().is_string()) {
      fail(std::string(key) + "." + item.key(), "must be text, is " + shown(item.value()));
      return {};
    }
    out.emplace_back(item.key(), item.value().get<std::string>());
  }
  return out;
}

Fields Fields::with_defaults(std::string_view defaults) const {
  json merged = json::parse(defaults);
  if (node_ != nullptr) merged.update(*static_cast<const json*>(node_));
  document_->merged.push_back(std::move(merged));
  return {document_, &document_->merged.back(), prefix_};
}

Fields Fields::object(std::string_view key) const {
  const json* v = look(node_, key);
  if (v != nullptr && !v->is_object()) {
    fail(key, "must be an object, is " + shown(*v));
    v = nullptr;
  }
  return {document_, v, prefix_ + std::string(key) + "."};
}

}  // namespace troupe::models
