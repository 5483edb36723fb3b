/* Closing with work in flight: drained, or cut short; each request ends; later calls say CLOSED. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <time.h>

#include "check.h"

enum { kRequests = 20 };

static void submit_all(troupe_engine *engine, troupe_queue *queue, const char *text) {
  troupe_request *request = new_request(text);
  for (uint64_t i = 0; i < kRequests; ++i) submit(engine, request, queue, i);
  troupe_request_free(request);
}

/* Every terminal event is there already: nothing is waited for. */
static int count_terminals(troupe_queue *queue, int32_t kind) {
  int terminals = 0;
  for (;;) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, 0, 0, &events));
    if (!events) return terminals;
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      if (!TROUPE_IS_TERMINAL(event->kind)) continue;
      ++terminals;
      CHECK(event->kind == kind);
    }
    troupe_events_free(events);
  }
}

static void *close_patiently(void *engine) {
  CHECK_OK(troupe_engine_close(engine, -1));
  return NULL;
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* While one thread waits as long as it takes, another has less patience: that counts for both. */
static void cut_short(int argc, char **argv, troupe_queue *queue, const char *text) {
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=10");
  submit_all(engine, queue, text);
  pthread_t patient;
  const double begun = seconds();
  CHECK(pthread_create(&patient, NULL, close_patiently, engine) == 0);
  nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
  CHECK_OK(troupe_engine_close(engine, 0));
  CHECK(count_terminals(queue, TROUPE_EVENT_CANCELLED) == kRequests);
  CHECK(pthread_join(patient, NULL) == 0);
  CHECK(seconds() - begun < 20); /* of 40, at least */
  troupe_engine_free(engine);
}

int main(int argc, char **argv) {
  troupe_queue *queue = new_queue();
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=1");
  submit_all(engine, queue, "a few words");
  CHECK_OK(troupe_engine_close(engine, -1));
  CHECK(count_terminals(queue, TROUPE_EVENT_DONE) == kRequests);
  troupe_engine_free(engine);

  char text[4001];
  memset(text, 'w', 4000);
  text[4000] = '\0';
  cut_short(argc, argv, queue, text);
  engine = open_engine(argc, argv, "echo:?step_ms=1");
  troupe_session *session = NULL;
  CHECK_OK(troupe_session_new(engine, NULL, &session));
  submit_all(engine, queue, text);
  CHECK_OK(troupe_engine_close(engine, 20000000));
  CHECK(count_terminals(queue, TROUPE_EVENT_CANCELLED) == kRequests);

  /* Idempotent, and everything else says what it is. */
  CHECK_OK(troupe_engine_close(engine, 0));
  CHECK_OK(troupe_engine_close(engine, -1));
  troupe_request *request = new_request("late");
  uint64_t id = 5;
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "echo:", troupe_submit(engine, request, queue, 0, &id));
  CHECK(id == 0);
  troupe_info info;
  info.struct_size = sizeof info;
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_engine_info(engine, &info));
  troupe_bytes *bytes = NULL;
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_engine_metrics(engine, &bytes));
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_tokenize(engine, "x", 1, 0, &bytes));
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_engine_set_option(engine, "a", "b"));
  troupe_session *other = NULL;
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_session_new(engine, NULL, &other));
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_session_fork(session, &other));
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_session_rewind(session, 0));
  troupe_cancel(engine, 1);
  troupe_engine_free(engine);
  CHECK_FAILS(TROUPE_ERROR_CLOSED, "closed", troupe_session_rewind(session, 0));
  troupe_session_free(session);
  troupe_request_free(request);
  troupe_queue_free(queue);
  return 0;
}
