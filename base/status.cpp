#include "base/status.hpp"

#include <cstdio>
#include <cstdlib>

namespace troupe {

void assert_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "troupe: invariant broken: %s (%s:%d)\n", expression, file, line);
  std::abort();
}

std::string_view code_name(Code code) {
  switch (code) {
    case Code::ok: return "OK";
    case Code::invalid: return "INVALID";
    case Code::limit: return "LIMIT";
    case Code::overloaded: return "OVERLOADED";
    case Code::deadline: return "DEADLINE";
    case Code::cancelled: return "CANCELLED";
    case Code::not_found: return "NOT_FOUND";
    case Code::unsupported: return "UNSUPPORTED";
    case Code::corrupt_model: return "CORRUPT_MODEL";
    case Code::out_of_memory: return "OUT_OF_MEMORY";
    case Code::device_failed: return "DEVICE_FAILED";
    case Code::connection_lost: return "CONNECTION_LOST";
    case Code::closed: return "CLOSED";
    case Code::forked: return "FORKED";
    case Code::unauthorised: return "UNAUTHORISED";
    case Code::internal: return "INTERNAL";
  }
  return "UNKNOWN";
}

}  // namespace troupe
