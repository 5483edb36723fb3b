/* n choices: their tokens stand apart by index, each one's last event says why it ended, one DONE.
 */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("four voices");
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.n = 4;
  sampling.seed = 1;
  CHECK_OK(troupe_request_sampling(request, &sampling));
  submit(engine, request, queue, 0);
  char text[4][64] = {{0}};
  size_t tokens[4] = {0};
  int32_t finish[4] = {0}, kind = -1;
  while (!TROUPE_IS_TERMINAL(kind)) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      kind = event->kind;
      if (kind == TROUPE_EVENT_DONE) {
        CHECK(event->finish_reason == TROUPE_FINISH_STOP && event->completion_tokens == 48);
      }
      if (kind != TROUPE_EVENT_TOKENS) continue;
      CHECK(event->index >= 0 && event->index < 4 && !finish[event->index]);
      CHECK(event->from == (int64_t)tokens[event->index]);
      tokens[event->index] += event->n_tokens;
      strncat(text[event->index], event->text, event->text_size);
      finish[event->index] = event->finish_reason;
    }
    troupe_events_free(events);
  }
  for (int i = 0; i < 4; ++i) {
    CHECK(strcmp(text[i], "four voices") == 0 && finish[i] == TROUPE_FINISH_STOP);
  }
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
