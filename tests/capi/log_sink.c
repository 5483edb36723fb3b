/* The log sink may call the API and may change itself; silence is the default. */
#include "check.h"

static troupe_engine *engine;
static int heard = 0, nested = 0;

static void sink(void *user, int32_t level, const char *message, size_t size) {
  CHECK(user == &heard && level >= TROUPE_LOG_WARN && level < TROUPE_LOG_OFF);
  CHECK(strlen(message) >= size);
  ++heard;
  ++nested;
  CHECK(nested == 1); /* what is logged in here is dropped */
  troupe_bytes *ids = NULL;
  CHECK_OK(troupe_tokenize(engine, "abc", 3, 0, &ids));
  troupe_bytes_free(ids);
  CHECK_OK(troupe_engine_set_option(engine, "log", "from inside"));
  --nested;
}

static void quitter(void *user, int32_t level, const char *message, size_t size) {
  UNUSED(level);
  UNUSED(message);
  UNUSED(size);
  ++*(int *)user;
  troupe_log_set(TROUPE_LOG_OFF, NULL, NULL); /* from inside itself */
}

int main(int argc, char **argv) {
  engine = open_engine(argc, argv, "echo:");
  CHECK_OK(troupe_engine_set_option(engine, "log", "nobody listens"));
  troupe_log_set(TROUPE_LOG_WARN, sink, &heard);
  CHECK_OK(troupe_engine_set_option(engine, "log", "one"));
  CHECK_OK(troupe_engine_set_option(engine, "log", "two"));
  CHECK(heard == 2);
  CHECK(strcmp(ask(engine, "still works")->text, "still works") == 0);
  troupe_log_set(TROUPE_LOG_ERROR, sink, &heard);
  CHECK_OK(troupe_engine_set_option(engine, "log", "a warning, below the level"));
  CHECK(heard == 2);
  troupe_log_set(TROUPE_LOG_OFF, NULL, NULL);
  int calls = 0;
  troupe_log_set(TROUPE_LOG_TRACE, quitter, &calls);
  CHECK_OK(troupe_engine_set_option(engine, "log", "three"));
  CHECK_OK(troupe_engine_set_option(engine, "log", "four"));
  CHECK(calls == 1);
  troupe_engine_free(engine);
  return 0;
}
