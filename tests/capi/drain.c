/* The bare C drain loop: what SDKs compare their CPU time per token event with. Not a test.
 *   capi_drain FOLDER-OF-libtroupe_engine.so [STREAMS] [TOKENS]
 * Prints one JSON object. Every token comes as an event of its own: the engine steps once a
 * millisecond and the loop keeps up. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "check.h"

static double cpu_us(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
  const int streams = argc > 2 ? atoi(argv[2]) : 64;
  const size_t n_tokens = argc > 3 ? (size_t)atoi(argv[3]) : 500;
  char *text = malloc(n_tokens + 1);
  CHECK(text);
  memset(text, 'd', n_tokens);
  text[n_tokens] = '\0';
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=1");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request(text);
  for (int i = 0; i < streams; ++i) submit(engine, request, queue, (uint64_t)i);

  uint64_t tokens = 0, token_events = 0, waits = 0;
  const double process = cpu_us(CLOCK_PROCESS_CPUTIME_ID);
  const double thread = cpu_us(CLOCK_THREAD_CPUTIME_ID);
  for (int left = streams; left > 0; ++waits) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      token_events += event->n_tokens > 0;
      tokens += event->n_tokens;
      left -= TROUPE_IS_TERMINAL(event->kind);
    }
    troupe_events_free(events);
  }
  const double spent = cpu_us(CLOCK_THREAD_CPUTIME_ID) - thread;
  const double all = cpu_us(CLOCK_PROCESS_CPUTIME_ID) - process;
  printf(
      "{\"language\": \"c\", \"streams\": %d, \"tokens\": %llu, \"token_events\": %llu, "
      "\"waits\": %llu, \"reader_us_per_event\": %.3f, \"process_us_per_event\": %.3f}\n",
      streams, (unsigned long long)tokens, (unsigned long long)token_events,
      (unsigned long long)waits, spent / (double)token_events, all / (double)token_events);
  troupe_request_free(request);
  troupe_engine_free(engine);
  troupe_queue_free(queue);
  free(text);
  return 0;
}
