/* Scoring: no token is made, the prompt's logprobs come; and logprobs beside generated tokens. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  troupe_request *request = NULL;
  CHECK_OK(troupe_request_new(&request));
  const int32_t ids[] = {'s', 'c', 'o', 'r', 'e'};
  CHECK_OK(troupe_request_tokens(request, ids, 5));
  CHECK_OK(troupe_request_option(request, "task", "score"));
  CHECK_OK(troupe_request_option(request, "add_special_tokens", "0"));
  submit(engine, request, queue, 0);
  size_t rows = 0, tokens = 0;
  int32_t kind = -1;
  while (!TROUPE_IS_TERMINAL(kind)) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      kind = event->kind;
      tokens += event->n_tokens;
      const troupe_logprob_table *table = event->prompt_logprobs;
      if (!table) continue;
      CHECK(rows == 0); /* once */
      rows = table->n_rows;
      CHECK(table->entry_size == sizeof(troupe_logprob));
      CHECK(table->row_starts[0] == 0 && table->row_starts[1] == 0); /* nothing before the first */
      for (size_t row = 1; row < rows; ++row) {
        CHECK(table->row_starts[row + 1] > table->row_starts[row]);
        const troupe_logprob *own = &table->entries[table->row_starts[row]];
        CHECK(own->token == ids[row] && own->logprob <= 0.0f);
      }
    }
    troupe_events_free(events);
  }
  CHECK(kind == TROUPE_EVENT_DONE && tokens == 0 && rows == 5);

  CHECK_OK(troupe_request_clear(request));
  CHECK_OK(troupe_request_text(request, "ab", 2));
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.logprobs = 3;
  CHECK_OK(troupe_request_sampling(request, &sampling));
  submit(engine, request, queue, 0);
  size_t seen = 0;
  for (kind = -1; !TROUPE_IS_TERMINAL(kind);) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      kind = event->kind;
      if (!event->n_tokens) continue;
      CHECK(event->logprobs && event->top_logprobs &&
            event->top_logprobs->n_rows == event->n_tokens);
      for (size_t t = 0; t < event->n_tokens; ++t) {
        const size_t begin = event->top_logprobs->row_starts[t];
        CHECK(event->top_logprobs->row_starts[t + 1] - begin == 3);
        CHECK(event->top_logprobs->entries[begin].rank == 1);
        CHECK(event->logprobs[t] <= 0.0f);
      }
      seen += event->n_tokens;
    }
    troupe_events_free(events);
  }
  CHECK(seen == 3); /* and the end of text */
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
