/* Opening with a queue: PROGRESS, then READY or FAILED; until then OVERLOADED; close gives up. */
#include "check.h"

static const troupe_event *next(troupe_queue *queue, troupe_events **events) {
  troupe_events_free(*events);
  CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 1, events));
  CHECK(*events);
  return TROUPE_EVENT(*events, 0);
}

int main(int argc, char **argv) {
  troupe_queue *queue = new_queue();
  troupe_engine_options options = options_for(argc, argv);
  options.queue = queue;
  options.user_data = 42;
  troupe_engine *engine = NULL;
  CHECK_OK(troupe_engine_open("echo:?load_ms=300", &options, &engine));
  troupe_info info;
  info.struct_size = sizeof info;
  troupe_error *early = troupe_engine_info(engine, &info);
  CHECK(troupe_error_code(early) == TROUPE_ERROR_OVERLOADED && troupe_error_retryable(early));
  CHECK(strstr(troupe_error_message(early), "READY"));
  troupe_error_free(early);
  troupe_events *events = NULL;
  const troupe_event *event = next(queue, &events);
  double progress = 0;
  int steps = 0;
  for (; event->kind == TROUPE_EVENT_PROGRESS; event = next(queue, &events)) {
    CHECK(event->id == 0 && event->user_data == 42 && event->text_size > 0);
    CHECK(event->progress >= progress && event->progress <= 1.0);
    progress = event->progress;
    ++steps;
  }
  CHECK(steps > 0);
  CHECK(event->kind == TROUPE_EVENT_READY && event->user_data == 42 && event->id == 0);
  CHECK(strcmp(ask(engine, "ready")->text, "ready") == 0);
  troupe_engine_free(engine);

  /* One that cannot be opened: the handle is there, and says why. */
  CHECK_OK(troupe_engine_open("no/such/folder", &options, &engine));
  do event = next(queue, &events);
  while (event->kind == TROUPE_EVENT_PROGRESS);
  CHECK(event->kind == TROUPE_EVENT_FAILED);
  CHECK(troupe_error_code(event->error) == TROUPE_ERROR_NOT_FOUND);
  CHECK(strstr(troupe_error_message(event->error), "no/such/folder"));
  CHECK_FAILS(TROUPE_ERROR_NOT_FOUND, "no/such/folder", troupe_engine_info(engine, &info));
  CHECK_OK(troupe_engine_close(engine, -1));
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_engine_info(engine, &info));
  troupe_engine_free(engine);

  /* Closed while it loads: it does not sit the load out, and FAILED comes with CLOSED. */
  CHECK_OK(troupe_engine_open("echo:?load_ms=20000", &options, &engine));
  CHECK_OK(troupe_engine_close(engine, 0));
  do event = next(queue, &events);
  while (event->kind == TROUPE_EVENT_PROGRESS);
  CHECK(event->kind == TROUPE_EVENT_FAILED);
  CHECK(troupe_error_code(event->error) == TROUPE_ERROR_CLOSED);
  troupe_engine_free(engine);
  troupe_events_free(events);
  troupe_queue_free(queue);
  return 0;
}
