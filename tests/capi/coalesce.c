/* A reader that lags finds one tokens event per request, however many tokens came. */
#include "check.h"

#include <time.h>

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  enum { kRequests = 50 };
  char text[1001];
  memset(text, 'x', 1000);
  text[1000] = '\0';
  troupe_request *request = new_request(text);
  for (uint64_t i = 0; i < kRequests; ++i) submit(engine, request, queue, i);
  /* Reads nothing until all are done. */
  troupe_stats stats;
  do {
    const struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
    stats.struct_size = sizeof stats;
    CHECK_OK(troupe_engine_stats(engine, &stats));
  } while (stats.done < kRequests);
  const struct timespec settle = {0, 50000000};
  nanosleep(&settle, NULL);
  size_t tokens[kRequests] = {0};
  int events_of[kRequests] = {0}, terminals = 0;
  while (terminals < kRequests) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      ++events_of[event->user_data];
      tokens[event->user_data] += event->n_tokens;
      terminals += TROUPE_IS_TERMINAL(event->kind);
    }
    troupe_events_free(events);
  }
  for (int i = 0; i < kRequests; ++i) {
    CHECK(tokens[i] == 1001);
    CHECK(events_of[i] <= 3); /* admitted, tokens, done */
  }
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
