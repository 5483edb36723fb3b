/* A process may return from main with work in flight and a thread that waits: no crash, no hang. */
#include "check.h"

#include <pthread.h>

static void *wait_for_ever(void *queue) {
  for (;;) {
    troupe_events *events = NULL;
    troupe_error *error = troupe_queue_wait(queue, -1, 0, &events);
    troupe_error_free(error);
    troupe_events_free(events);
  }
  return NULL;
}

/* Held until the process ends, as a program that calls exit() somewhere holds them. */
static troupe_engine *engine, *loading;
static troupe_queue *queue, *in_turn[8];
static troupe_request *request;

int main(int argc, char **argv) {
  char text[4001];
  memset(text, 'v', 4000);
  text[4000] = '\0';
  engine = open_engine(argc, argv, "echo:?step_ms=1");
  queue = new_queue();
  request = new_request(text);
  for (uint64_t i = 0; i < 100; ++i) submit(engine, request, queue, i);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, wait_for_ever, queue) == 0);
  for (int i = 0; i < 8; ++i) { /* and threads that take turns */
    CHECK_OK(troupe_queue_new_in_turn(queue, &in_turn[i]));
    submit(engine, request, in_turn[i], 0);
    CHECK(pthread_create(&thread, NULL, wait_for_ever, in_turn[i]) == 0);
  }

  /* And one that still loads, for longer than this test may take. */
  troupe_engine_options options = options_for(argc, argv);
  options.queue = queue;
  CHECK_OK(troupe_engine_open("echo:?load_ms=2000", &options, &loading));
  return 0;
}
