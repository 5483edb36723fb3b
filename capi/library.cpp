// What belongs to the library as a whole: its version, the sizes of its structs, its log.
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

#include "base/build_id.hpp"
#include "capi/error.hpp"
#include "capi/plugin.hpp"

using troupe::LogLevel;

namespace {

struct NamedSize {
  std::string_view name;
  uint32_t size;
};

constexpr NamedSize kSizes[] = {
    {"troupe_bytes", sizeof(troupe_bytes)},
    {"troupe_logprob", sizeof(troupe_logprob)},
    {"troupe_logprob_table", sizeof(troupe_logprob_table)},
    {"troupe_event", sizeof(troupe_event)},
    {"troupe_events", sizeof(troupe_events)},
    {"troupe_engine_options", sizeof(troupe_engine_options)},
    {"troupe_info", sizeof(troupe_info)},
    {"troupe_stats", sizeof(troupe_stats)},
    {"troupe_image", sizeof(troupe_image)},
    {"troupe_sampling", sizeof(troupe_sampling)},
    {"troupe_session_options", sizeof(troupe_session_options)},
    {"troupe_session_state", sizeof(troupe_session_state)},
    {"troupe_server_options", sizeof(troupe_server_options)},
};

#define TR_TEXT_INNER(x) #x
#define TR_TEXT(x) TR_TEXT_INNER(x)
constexpr const char* kVersion = TR_TEXT(TROUPE_VERSION_MAJOR) "." TR_TEXT(
    TROUPE_VERSION_MINOR) "." TR_TEXT(TROUPE_VERSION_PATCH);

}  // namespace

extern "C" {

uint32_t troupe_version(void) {
  return (TROUPE_VERSION_MAJOR << 16) | (TROUPE_VERSION_MINOR << 8) | TROUPE_VERSION_PATCH;
}

const char* troupe_version_string(void) {
  static const char* text = kVersion;  // what is said when there is no memory for more
  troupe::capi::guard_void([] {
    static const std::string* const full =
        new std::string(std::string(kVersion) + " (" + troupe::build_id() + ")");
    text = full->c_str();
  });
  return text;
}

uint32_t troupe_sizeof(const char* struct_name) {
  if (struct_name == nullptr) return 0;
  for (const NamedSize& known : kSizes) {
    if (known.name == struct_name) return known.size;
  }
  return 0;
}

void troupe_log_set(int32_t level, troupe_log_fn fn, void* user) {
  troupe::capi::guard_void([&] {
    const bool on = fn != nullptr && level >= TROUPE_LOG_TRACE && level < TROUPE_LOG_OFF;
    if (!on) {
      troupe::capi::set_log(LogLevel::off, {});
      return;
    }
    troupe::capi::set_log(static_cast<LogLevel>(level),
                          [fn, user](LogLevel said, std::string_view message) {
                            fn(user, static_cast<int32_t>(said), message.data(), message.size());
                          });
  });
}
}

static_assert(TROUPE_LOG_TRACE == static_cast<int>(LogLevel::trace));
static_assert(TROUPE_LOG_DEBUG == static_cast<int>(LogLevel::debug));
static_assert(TROUPE_LOG_INFO == static_cast<int>(LogLevel::info));
static_assert(TROUPE_LOG_WARN == static_cast<int>(LogLevel::warn));
static_assert(TROUPE_LOG_ERROR == static_cast<int>(LogLevel::error));
static_assert(TROUPE_LOG_OFF == static_cast<int>(LogLevel::off));
