/* Cancelling: while it runs, while it waits, twice, after the end, and ids that never were. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine_options options = options_for(argc, argv);
  options.max_sequences = 1;
  troupe_engine *engine = NULL;
  CHECK_OK(troupe_engine_open("echo:?step_ms=2", &options, &engine));
  char text[4001];
  memset(text, 'y', 4000);
  text[4000] = '\0';
  troupe_request *request = new_request(text);
  troupe_queue *running_queue = new_queue(), *waiting_queue = new_queue();
  uint64_t running = submit(engine, request, running_queue, 0);
  uint64_t waiting = submit(engine, request, waiting_queue, 0);

  troupe_cancel(engine, waiting);
  const answer *a = collect(waiting_queue);
  CHECK(a->kind == TROUPE_EVENT_CANCELLED && a->n_tokens == 0);

  /* Let the other one make a token first. */
  for (int some = 0; !some;) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(running_queue, -1, 1, &events));
    some = TROUPE_EVENT(events, 0)->n_tokens > 0;
    troupe_events_free(events);
  }
  troupe_cancel(engine, running);
  troupe_cancel(engine, running);
  int terminals = 0;
  while (!terminals) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(running_queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      if (!TROUPE_IS_TERMINAL(event->kind)) continue;
      ++terminals;
      CHECK(event->kind == TROUPE_EVENT_CANCELLED);
      CHECK(event->finish_reason == TROUPE_FINISH_CANCELLED);
    }
    troupe_events_free(events);
  }
  troupe_cancel(engine, running); /* finished */
  troupe_cancel(engine, 0);
  troupe_cancel(engine, UINT64_MAX);
  troupe_cancel(NULL, 1);
  troupe_events *events = NULL;
  CHECK_OK(troupe_queue_wait(running_queue, 50000000, 0, &events));
  CHECK(!events); /* one terminal event is all */
  troupe_request_free(request);
  troupe_engine_free(engine);
  troupe_queue_free(running_queue);
  troupe_queue_free(waiting_queue);
  return 0;
}
