#include "wire/server_settings.hpp"

#include <algorithm>
#include <charconv>

#include "base/limits.hpp"

namespace troupe::wire {
namespace {

struct Setting {
  std::string_view name;
  int64_t low, high;
  void (*put)(ServerConfig&, int64_t);
};

constexpr int64_t kCount = 1 << 20;
constexpr int64_t kBytes = int64_t{1} << 40;
constexpr int64_t kDay_ms = int64_t{24} * 3600 * 1000;

template <uint64_t Limits::*Field>
void put(ServerConfig& to, int64_t value) {
  to.limits.*Field = static_cast<uint64_t>(value);
}

constexpr Setting kSettings[] = {
    {"requests", 1, kCount, put<&Limits::requests>},
    {"body_bytes", 4096, int64_t{1} << 28, put<&Limits::body_bytes>},
    {"image_bytes", 1, static_cast<int64_t>(limits::image_bytes), put<&Limits::image_bytes>},
    {"image_pixels", 1, limits::image_pixels, put<&Limits::image_pixels>},
    {"images", 0, limits::images_per_request, put<&Limits::images>},
    {"prompt_tokens", 1, limits::prompt_tokens, put<&Limits::prompt_tokens>},
    {"sessions", 0, limits::sessions, put<&Limits::sessions>},
    {"upload_bytes", 1, kBytes, put<&Limits::upload_bytes>},
    {"questions", 1, kCount, put<&Limits::questions>},
    {"heartbeat_ms", 10, kDay_ms, [](ServerConfig& to, int64_t value) { to.heartbeat_ms = value; }},
    {"idle_ms", 10, kDay_ms, [](ServerConfig& to, int64_t value) { to.idle_ms = value; }},
    {"clients", 1, int64_t{1} << 24,
     [](ServerConfig& to, int64_t value) { to.clients = static_cast<uint64_t>(value); }},
    {"all_upload_bytes", 1, kBytes,
     [](ServerConfig& to, int64_t value) { to.upload_bytes = static_cast<uint64_t>(value); }},
};

Status apply(ServerConfig& config, const std::string& name, const std::string& value) {
  const auto* const setting = std::find_if(std::begin(kSettings), std::end(kSettings),
                                           [&](const Setting& s) { return s.name == name; });
  if (setting == std::end(kSettings)) {
    std::string known;
    for (const Setting& s : kSettings) known.append(known.empty() ? "" : ", ").append(s.name);
    return invalid("a server has no setting \"" + name + "\": it has " + known);
  }
  int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, wrong] = std::from_chars(value.data(), end, number);
  if (wrong != std::errc() || rest != end || number < setting->low || number > setting->high) {
    return invalid("server setting " + name + " is \"" + value + "\": it must be a whole number, " +
                   std::to_string(setting->low) + " to " + std::to_string(setting->high));
  }
  setting->put(config, number);
  return {};
}

}  // namespace

Result<ServerConfig> server_config(const ServerOptions& options, const EngineInfo& info) {
  ServerConfig config;
  if (info.image_pixels_max > 0) {
    config.limits.image_pixels =
        std::min(config.limits.image_pixels, static_cast<uint64_t>(info.image_pixels_max));
  }
  for (const auto& [name, value] : options.settings) TR_TRY(apply(config, name, value));
  if (options.resume_window_ns)
    config.resume_ms = std::min(*options.resume_window_ns / 1'000'000, 7 * kDay_ms);
  config.limits.blob_bytes = std::min(config.limits.blob_bytes, config.limits.body_bytes);
  config.idle_ms = std::max(config.idle_ms, config.heartbeat_ms);
  return config;
}

}  // namespace troupe::wire
