/* A session with a fork: one beginning, two ways to go on, and neither repeats its work.
 *   session [ENDPOINT] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe.h>

static void check(troupe_error *error) {
  if (!error) return;
  fprintf(stderr, "%s: %s\n", troupe_error_name(troupe_error_code(error)),
          troupe_error_message(error));
  exit(1);
}

static void ask(troupe_engine *engine, troupe_session *session, const char *prompt) {
  troupe_queue *queue;
  troupe_request *request;
  check(troupe_queue_new(&queue));
  check(troupe_request_new(&request));
  check(troupe_request_session(request, session));
  check(troupe_request_text(request, prompt, strlen(prompt)));
  check(troupe_submit(engine, request, queue, 0, NULL));
  for (int32_t kind = -1; !TROUPE_IS_TERMINAL(kind);) {
    troupe_events *events;
    check(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      fwrite(event->text, 1, event->text_size, stdout);
      kind = event->kind;
    }
    troupe_events_free(events);
  }
  putchar('\n');
  troupe_request_free(request);
  troupe_queue_free(queue);
}

int main(int argc, char **argv) {
  troupe_engine *engine;
  troupe_session *session, *other;
  check(troupe_engine_open(argc > 1 ? argv[1] : "echo:", NULL, &engine));
  check(troupe_session_new(engine, NULL, &session));
  ask(engine, session, "Once upon a time there was a lamp.");

  check(troupe_session_fork(session, &other));
  ask(engine, session, " It was lit.");
  ask(engine, other, " It was broken.");

  troupe_session_state state = {.struct_size = sizeof state};
  check(troupe_session_info(other, &state));
  printf("the fork holds %lld tokens\n", (long long)state.tokens);

  troupe_session_free(other);
  troupe_session_free(session);
  troupe_engine_free(engine);
  return 0;
}
