/* A batch: all requests are submitted at once and answered as they finish; user_data says whose
 * event it is.   batch [ENDPOINT] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe.h>

static const char *const kPrompts[] = {"one", "two", "three", "four", "five"};
enum { kCount = sizeof kPrompts / sizeof kPrompts[0] };

static void check(troupe_error *error) {
  if (!error) return;
  fprintf(stderr, "%s: %s\n", troupe_error_name(troupe_error_code(error)),
          troupe_error_message(error));
  exit(1);
}

int main(int argc, char **argv) {
  troupe_engine *engine;
  troupe_queue *queue;
  check(troupe_engine_open(argc > 1 ? argv[1] : "echo:", NULL, &engine));
  check(troupe_queue_new(&queue));
  for (uint64_t i = 0; i < kCount; ++i) {
    troupe_request *request;
    check(troupe_request_new(&request));
    check(troupe_request_text(request, kPrompts[i], strlen(kPrompts[i])));
    check(troupe_submit(engine, request, queue, i, NULL));
    troupe_request_free(request);
  }

  char answers[kCount][1024] = {{0}};
  for (int left = kCount; left > 0;) {
    troupe_events *events;
    check(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      char *answer = answers[event->user_data];
      const size_t used = strlen(answer);
      snprintf(answer + used, sizeof answers[0] - used, "%.*s", (int)event->text_size, event->text);
      left -= TROUPE_IS_TERMINAL(event->kind);
    }
    troupe_events_free(events);
  }
  for (int i = 0; i < kCount; ++i) printf("%s -> %s\n", kPrompts[i], answers[i]);

  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
