#include "actors/live_options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <utility>

#include "actors/port_text.hpp"
#include "base/limits.hpp"
#include "base/log.hpp"
#include "engine/scheduler.hpp"

namespace troupe::actors {
namespace {

constexpr std::array<std::string_view, 6> kLogLevels = {"trace", "debug", "info",
                                                        "warn",  "error", "off"};
constexpr std::string_view kFixed[] = {
    "device",        "threads",       "dtype",          "kv_dtype",        "load_format",
    "chat_template", "max_sequences", "context_length", "kv_bytes",        "block_tokens",
    "overlap",       "deterministic", "seed",           "tensor_parallel", "packed_weights"};

constexpr std::string_view kPackedWeights = "packed_weights";

Status bad_value(std::string_view key, std::string_view value, const std::string& wanted) {
  return invalid(std::string(key) + ": \"" + std::string(value) + "\" is no value of it; give " +
                 wanted);
}

Result<int64_t> whole_number(std::string_view key, std::string_view value, int64_t low,
                             int64_t high) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < low || number > high) {
    return bad_value(key, value,
                     "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return number;
}

Result<bool> yes_or_no(std::string_view key, std::string_view value) {
  if (value == "1" || value == "true" || value == "on") return true;
  if (value == "0" || value == "false" || value == "off") return false;
  return bad_value(key, value, "1 or 0 (also true or false, on or off)");
}

Status set_log(Cast&, EngineOptions&, std::string_view value) {
  const auto* const at = std::find(kLogLevels.begin(), kLogLevels.end(), value);
  if (at == kLogLevels.end()) {
    return bad_value("log_level", value, "trace, debug, info, warn, error or off");
  }
  set_log_level(static_cast<LogLevel>(at - kLogLevels.begin()));
  return {};
}

Status set_max_waiting(Cast& cast, EngineOptions& options, std::string_view value) {
  TR_ASSIGN(const int64_t requests, whole_number("max_waiting", value, 1, kMaxWaitingMost));
  options.max_waiting = static_cast<int32_t>(requests);
  TR_TRY(cast.visit([n = options.max_waiting](engine::Scheduler& s) { s.set_waiting_max(n); }));
  cast.set_waiting_max(options.max_waiting);
  return {};
}

Status set_max_step_tokens(Cast& cast, EngineOptions& options, std::string_view value) {
  TR_ASSIGN(const int64_t rows, whole_number("max_step_tokens", value, 1, limits::step_rows));
  auto answer = std::make_shared<Status>();
  TR_TRY(cast.visit([answer, rows](engine::Scheduler& s) {
    *answer = s.set_step_rows(static_cast<int32_t>(rows));
  }));
  TR_TRY(*answer);
  options.max_step_tokens = static_cast<int32_t>(rows);
  return {};
}

Status set_prefix_reuse(Cast& cast, EngineOptions& options, std::string_view value) {
  TR_ASSIGN(options.prefix_reuse, yes_or_no("prefix_reuse", value));
  return cast.visit(
      [reuse = options.prefix_reuse](engine::Scheduler& s) { s.set_prefix_reuse(reuse); });
}

Status set_session_lease(Cast& cast, EngineOptions& options, std::string_view value) {
  constexpr int64_t kMs = 1'000'000;
  TR_ASSIGN(const int64_t lease_ms, whole_number("session_lease_ms", value, 1, INT64_MAX / kMs));
  options.session_lease_ns = lease_ms * kMs;
  return cast.visit(
      [ns = options.session_lease_ns](engine::Scheduler& s) { s.set_session_lease(ns); });
}

struct Option {
  std::string_view key;
  Status (*set)(Cast&, EngineOptions&, std::string_view value);
};
constexpr Option kOptions[] = {{"log_level", set_log},
                               {"max_waiting", set_max_waiting},
                               {"max_step_tokens", set_max_step_tokens},
                               {"prefix_reuse", set_prefix_reuse},
                               {"session_lease_ms", set_session_lease}};

const Option* find_option(std::string_view key) {
  const auto* const at = std::find_if(std::begin(kOptions), std::end(kOptions),
                                      [&](const Option& o) { return o.key == key; });
  return at == std::end(kOptions) ? nullptr : at;
}

}  // namespace

Status check_live_option(std::string_view key) {
  if (find_option(key) != nullptr) return {};
  std::string known;
  for (const Option& option : kOptions) {
    known += (known.empty() ? "" : ", ") + std::string(option.key);
  }
  const bool fixed = std::find(std::begin(kFixed), std::end(kFixed), key) != std::end(kFixed);
  return unsupported(
      "option \"" + std::string(key) + "\" " +
      (fixed ? "is fixed once an engine is open: close it and open another" : "is unknown") +
      "; an open engine takes " + known);
}

Result<EngineOptions> take_opening_settings(EngineOptions options) {
  auto& settings = options.extra;
  for (const auto& [key, value] : settings) {
    if (key != kPackedWeights) continue;
    if (value != "auto" && value != "off") return bad_value(key, value, "auto or off");
    options.packed_weights = value == "auto";
  }
  std::erase_if(settings, [](const auto& setting) { return setting.first == kPackedWeights; });
  return options;
}

Status LiveOptions::set(Cast& cast, std::string_view key, std::string_view value) {
  TR_TRY(check_live_option(key));
  const std::scoped_lock lock(mutex_);
  EngineOptions changed = options_;
  TR_TRY(find_option(key)->set(cast, changed, value));
  options_ = std::move(changed);
  return {};
}

std::string LiveOptions::json() const {
  const std::scoped_lock lock(mutex_);
  return options_json(options_);
}

int32_t LiveOptions::max_waiting() const {
  const std::scoped_lock lock(mutex_);
  return options_.max_waiting;
}

}  // namespace troupe::actors
