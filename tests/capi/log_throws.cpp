// A log sink that throws is turned off; nothing passes through the C ABI, nothing dies.
#include <stdexcept>

#pragma GCC diagnostic ignored "-Wold-style-cast"  // check.h is C
#include "check.h"

static int calls = 0;

static void thrower(void*, int32_t, const char*, size_t) {
  ++calls;
  throw std::runtime_error("from the sink");
}

int main(int argc, char** argv) {
  troupe_engine* engine = open_engine(argc, argv, "echo:");
  troupe_log_set(TROUPE_LOG_TRACE, thrower, nullptr);
  CHECK_OK(troupe_engine_set_option(engine, "log", "one"));
  CHECK_OK(troupe_engine_set_option(engine, "log", "two"));
  CHECK(calls == 1);
  CHECK(strcmp(ask(engine, "goes on")->text, "goes on") == 0);
  troupe_engine_free(engine);
  return 0;
}
