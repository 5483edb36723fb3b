/* Two engines in one process share a queue and nothing else; one may go while the other works. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine *first = open_engine(argc, argv, "echo:?step_ms=0.5");
  troupe_engine *second = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("the same words");
  submit(first, request, queue, 1);
  submit(second, request, queue, 2);
  int done[3] = {0};
  while (!done[1] || !done[2]) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      done[event->user_data] += event->kind == TROUPE_EVENT_DONE;
    }
    troupe_events_free(events);
  }
  CHECK(done[1] == 1 && done[2] == 1);
  submit(first, request, queue, 3);
  troupe_engine_free(second);
  CHECK(strcmp(collect(queue)->text, "the same words") == 0);

  /* A queue may go before what it was to hear of. */
  troupe_queue *brief = new_queue();
  submit(first, request, brief, 4);
  troupe_queue_free(brief);
  CHECK(strcmp(ask(first, "and on it goes")->text, "and on it goes") == 0);
  troupe_request_free(request);
  troupe_engine_free(first);
  troupe_queue_free(queue);
  return 0;
}
