/* One request: its answer, its usage, its times, its one terminal event. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  const answer *a = ask(engine, "hello, world");
  CHECK(strcmp(a->text, "hello, world") == 0);
  CHECK(a->n_tokens == 13 && a->tokens[12] == 256 && a->tokens[0] == 'h');
  CHECK(a->kind == TROUPE_EVENT_DONE && a->finish_reason == TROUPE_FINISH_STOP);
  CHECK(a->prompt_tokens >= 12 && a->completion_tokens >= 12);

  /* A request may be submitted again and changed in between. */
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("ab");
  submit(engine, request, queue, 1);
  CHECK(strcmp(collect(queue)->text, "ab") == 0);
  CHECK_OK(troupe_request_text(request, "cd", 2));
  uint64_t id = submit(engine, request, queue, 2);
  troupe_request_free(request); /* it is a snapshot that runs */
  troupe_events *events = NULL;
  int done = 0;
  while (!done) {
    CHECK_OK(troupe_queue_wait(queue, -1, 1, &events));
    CHECK(TROUPE_COUNT(events) == 1);
    const troupe_event *event = TROUPE_EVENT(events, 0);
    CHECK(event->id == id && event->user_data == 2 && event->struct_size == sizeof *event);
    done = TROUPE_IS_TERMINAL(event->kind);
    if (done) CHECK(event->total_ns > 0 && event->first_token_ns <= event->total_ns);
    troupe_events_free(events);
  }

  request = new_request("0123456789");
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.max_tokens = 4;
  CHECK_OK(troupe_request_sampling(request, &sampling));
  submit(engine, request, queue, 3);
  a = collect(queue);
  CHECK(strcmp(a->text, "0123") == 0 && a->finish_reason == TROUPE_FINISH_LENGTH);
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
