// A checked look into one JSON object of a model folder (config.json, generation_config.json, an
// index). Every field that is read is checked for type and range; the first problem sticks and
// names file, field, limit and value, so a family reads all it wants and asks status() once at the
// end. A null field counts as absent, as it does for transformers. Untrusted input: bounded in size
// and nesting. The JSON library stays in the .cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.hpp"
#include "base/status.hpp"

namespace troupe::models {

class Fields {
 public:
  // `label` names the file in errors.
  static Result<Fields> parse(std::string_view text, std::string_view label,
                              size_t bytes_max = limits::config_bytes);
  static Result<Fields> read(const std::string& path, std::string_view label);

  [[nodiscard]] bool has(std::string_view key) const;
  [[nodiscard]] bool is_object(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> keys() const;
  // The one of two names that is there (the first, when neither is).
  [[nodiscard]] std::string_view either(std::string_view a, std::string_view b) const;

  // Without a fallback the field is required. After a failure the values are harmless dummies.
  [[nodiscard]] int64_t integer(std::string_view key, int64_t low, int64_t high,
                                std::optional<int64_t> fallback = std::nullopt) const;
  [[nodiscard]] int32_t count(std::string_view key, int32_t high,
                              std::optional<int32_t> fallback = std::nullopt) const;
  [[nodiscard]] double real(std::string_view key, double low, double high,
                            std::optional<double> fallback = std::nullopt) const;
  [[nodiscard]] bool boolean(std::string_view key, std::optional<bool> fallback) const;
  [[nodiscard]] std::string text(std::string_view key,
                                 std::optional<std::string> fallback = std::nullopt) const;
  // Lists are empty when absent. A lone integer counts as a list of one (eos_token_id).
  [[nodiscard]] std::vector<int64_t> integers(std::string_view key, int64_t low,
                                              int64_t high) const;
  // A list of lists of whole numbers ([[336, 672], [672, 336]]); empty when absent.
  [[nodiscard]] std::vector<std::vector<int64_t>> integer_rows(std::string_view key, int64_t low,
                                                               int64_t high) const;
  [[nodiscard]] std::vector<double> reals(std::string_view key, double low, double high) const;
  [[nodiscard]] std::vector<std::string> texts(std::string_view key) const;
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> text_map(std::string_view key,
                                                                          size_t entries_max) const;
  // A nested object; without keys when absent. Shares the sticking failure with its parent.
  [[nodiscard]] Fields object(std::string_view key) const;

  // The same object with what a library assumes where the file is silent: `defaults` is a JSON object
  // of our own. A field that is there, even as null, is not replaced.
  [[nodiscard]] Fields with_defaults(std::string_view defaults) const;

  // States a problem that only the reader can see ("must divide hidden_size").
  void fail(std::string_view key, std::string_view problem) const;
  [[nodiscard]] Status status() const;
  [[nodiscard]] const std::string& label() const;

 private:
  struct Document;
  Fields(std::shared_ptr<Document> document, const void* node, std::string prefix)
      : document_(std::move(document)), node_(node), prefix_(std::move(prefix)) {}
  std::shared_ptr<Document> document_;
  const void* node_;  // a JSON object of the document, or null
  std::string prefix_;
};

}  // namespace troupe::models
