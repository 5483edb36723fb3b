/* When the waiting room is full requests are refused at once, retryably; what was accepted ends. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine_options options = options_for(argc, argv);
  options.max_sequences = 2;
  options.max_waiting = 4;
  troupe_engine *engine = NULL;
  CHECK_OK(troupe_engine_open("echo:?step_ms=1", &options, &engine));
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("some work that takes a few steps");
  int accepted = 0, refused = 0;
  for (int i = 0; i < 100; ++i) {
    uint64_t id = 77;
    troupe_error *error = troupe_submit(engine, request, queue, 0, &id);
    if (!error) {
      ++accepted;
      continue;
    }
    ++refused;
    CHECK(troupe_error_code(error) == TROUPE_ERROR_OVERLOADED);
    CHECK(troupe_error_retryable(error) == 1);
    CHECK(id == 0);
    troupe_error_free(error);
  }
  CHECK(accepted >= 4 && refused > 0);
  int ended = 0;
  while (ended < accepted) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      ended += TROUPE_EVENT(events, i)->kind == TROUPE_EVENT_DONE;
    }
    troupe_events_free(events);
  }
  troupe_stats stats;
  stats.struct_size = sizeof stats;
  CHECK_OK(troupe_engine_stats(engine, &stats));
  CHECK(stats.refused == (uint64_t)refused && stats.done == (uint64_t)accepted);
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
