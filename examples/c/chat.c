/* A streamed chat: tokens are printed as they come.   chat [ENDPOINT] < lines */
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

static void say(troupe_request *chat, int32_t role, const char *text, size_t size) {
  check(troupe_request_message(chat, role));
  check(troupe_request_text(chat, text, size));
}

/* Prints the answer while it grows, and adds it to the chat: the next turn builds on it. */
static void answer(troupe_engine *engine, troupe_queue *queue, troupe_request *chat) {
  check(troupe_submit(engine, chat, queue, 0, NULL));
  check(troupe_request_message(chat, TROUPE_ROLE_ASSISTANT));
  for (int32_t kind = -1; !TROUPE_IS_TERMINAL(kind);) {
    troupe_events *events;
    check(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      fwrite(event->text, 1, event->text_size, stdout);
      check(troupe_request_text(chat, event->text, event->text_size));
      kind = event->kind;
    }
    fflush(stdout);
    troupe_events_free(events);
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  troupe_engine *engine;
  troupe_queue *queue;
  troupe_request *chat;
  check(troupe_engine_open(argc > 1 ? argv[1] : "echo:", NULL, &engine));
  check(troupe_queue_new(&queue));
  check(troupe_request_new(&chat));
  say(chat, TROUPE_ROLE_SYSTEM, "Answer in one sentence.", 23);

  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    say(chat, TROUPE_ROLE_USER, line, strcspn(line, "\n"));
    answer(engine, queue, chat);
  }

  troupe_request_free(chat);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
