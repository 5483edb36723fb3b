/* The floor: reads many answers at once in one drain loop, and prints how many token events came.
 * overhead ENDPOINT STREAMS TOKENS; see bench/sdk/run.py */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe.h>

static void check(troupe_error *error) {
  if (!error) return;
  fprintf(stderr, "%s\n", troupe_error_message(error));
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const int streams = atoi(argv[2]), tokens = atoi(argv[3]);
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  options.max_sequences = streams;
  troupe_engine *engine;
  troupe_queue *queue;
  troupe_request *request;
  check(troupe_engine_open(argv[1], &options, &engine));
  check(troupe_queue_new(&queue));
  check(troupe_request_new(&request));
  char *prompt = malloc((size_t)tokens);
  memset(prompt, 'x', (size_t)tokens);
  check(troupe_request_text(request, prompt, (size_t)tokens));
  for (int i = 0; i < streams; ++i) check(troupe_submit(engine, request, queue, 0, NULL));

  long total = 0;
  for (int left = streams; left > 0;) {
    troupe_events *events;
    check(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      total += event->kind == TROUPE_EVENT_TOKENS && event->n_tokens > 0;
      left -= TROUPE_IS_TERMINAL(event->kind);
    }
    troupe_events_free(events);
  }
  printf("%ld\n", total);
  troupe_request_free(request);
  troupe_engine_free(engine);
  troupe_queue_free(queue);
  free(prompt);
  return 0;
}
