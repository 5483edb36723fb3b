/* Queues that take turns: a thread for each request. All of every answer comes, whoever is slow,
 * stays away, looks without waiting or waits for a short time; and threads that come back at once
 * run one after the other. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { kThreads = 32, kTokens = 60 };

static troupe_queue *beside(troupe_queue *other) {
  troupe_queue *queue = NULL;
  CHECK_OK(troupe_queue_new_in_turn(other, &queue));
  CHECK(queue);
  return queue;
}

static void pause_ms(long ms) {
  const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

/* ---- a thread for each request ---- */

typedef struct job {
  pthread_t thread;
  troupe_queue *queue;
  int64_t timeout_ns; /* of each wait */
  long pause_ms; /* after each event */
  size_t text_size;
  int32_t kind; /* of the terminal event */
} job;

/* Whether something came. */
static int read_once(job *self) {
  troupe_events *events = NULL;
  CHECK_OK(troupe_queue_wait(self->queue, self->timeout_ns, 1, &events));
  CHECK(events || self->timeout_ns >= 0);
  for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
    const troupe_event *event = TROUPE_EVENT(events, i);
    self->kind = event->kind;
    self->text_size += event->text_size;
  }
  troupe_events_free(events);
  return events != NULL;
}

static void *read_all(void *raw) {
  job *const self = raw;
  while (!TROUPE_IS_TERMINAL(self->kind)) {
    const int came = read_once(self);
    if (!came && self->timeout_ns == 0) pause_ms(1);
    if (came && self->pause_ms) pause_ms(self->pause_ms);
  }
  return NULL;
}

/* How they wait: for ever, with pauses, for no time, for short times, and all of these together. */
static void a_thread_for_each_request(troupe_engine *engine) {
  troupe_queue *first = new_queue();
  char text[kTokens + 1];
  memset(text, 'x', kTokens);
  text[kTokens] = '\0';
  troupe_request *request = new_request(text);
  for (int round = 0; round < 5; ++round) {
    static job jobs[kThreads];
    for (int i = 0; i < kThreads; ++i) {
      const int how = round == 4 ? i % 4 : round;
      jobs[i] = (job){.queue = beside(i ? jobs[i - 1].queue : first), .timeout_ns = -1, .kind = -1};
      if (how == 1) jobs[i].pause_ms = 3;
      if (how == 2) jobs[i].timeout_ns = 0;
      if (how == 3) jobs[i].timeout_ns = 200000;
      submit(engine, request, jobs[i].queue, 0);
    }
    if (round < 2) { /* the others do not mind where they came from */
      troupe_queue_free(first);
      first = round == 0 ? NULL : new_queue();
    }
    for (int i = 0; i < kThreads; ++i)
      CHECK(!pthread_create(&jobs[i].thread, NULL, read_all, &jobs[i]));
    for (int i = 0; i < kThreads; ++i) {
      CHECK(!pthread_join(jobs[i].thread, NULL));
      CHECK(jobs[i].kind == TROUPE_EVENT_DONE && jobs[i].text_size == kTokens);
    }
    for (int i = 0; i < kThreads; ++i) troupe_queue_free(jobs[i].queue);
    if (!first) first = new_queue();
  }
  troupe_request_free(request);
  troupe_queue_free(first);
}

/* ---- who stays away ---- */

static atomic_int may_come_back;

static void *stays_away(void *raw) {
  read_once(raw);
  while (!atomic_load(&may_come_back)) pause_ms(1);
  return read_all(raw);
}

static void nobody_waits_for_who_stays_away(troupe_engine *engine) {
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("a few words");
  job jobs[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    jobs[i] = (job){.queue = beside(queue), .timeout_ns = -1, .kind = -1};
    submit(engine, request, jobs[i].queue, 0);
    CHECK(
        !pthread_create(&jobs[i].thread, NULL, i < kThreads / 2 ? stays_away : read_all, &jobs[i]));
  }
  for (int i = kThreads / 2; i < kThreads; ++i) CHECK(!pthread_join(jobs[i].thread, NULL));
  atomic_store(&may_come_back, 1);
  for (int i = 0; i < kThreads / 2; ++i) CHECK(!pthread_join(jobs[i].thread, NULL));
  for (int i = 0; i < kThreads; ++i) {
    CHECK(jobs[i].kind == TROUPE_EVENT_DONE);
    troupe_queue_free(jobs[i].queue);
  }
  troupe_request_free(request);
  troupe_queue_free(queue);
}

/* ---- one thread, many queues; many threads, one queue ---- */

static void one_thread_reads_all(troupe_engine *engine) {
  troupe_queue *queue = new_queue(), *in_turn[kThreads];
  troupe_request *request = new_request("one after the other");
  for (int i = 0; i < kThreads; ++i) {
    in_turn[i] = beside(queue);
    submit(engine, request, in_turn[i], 0);
  }
  for (int i = kThreads; i-- > 0;)
    CHECK(strcmp(collect(in_turn[i])->text, "one after the other") == 0);
  for (int i = 0; i < kThreads; ++i) troupe_queue_free(in_turn[i]);
  troupe_request_free(request);
  troupe_queue_free(queue);
}

static troupe_queue *shared;
static atomic_int left;

static void *read_shared(void *unused) {
  UNUSED(unused);
  while (atomic_load(&left) > 0) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(shared, -1, 2, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      if (TROUPE_IS_TERMINAL(TROUPE_EVENT(events, i)->kind)) atomic_fetch_sub(&left, 1);
    }
    troupe_events_free(events);
  }
  troupe_queue_wake(shared);
  return NULL;
}

static void many_threads_read_one(troupe_engine *engine) {
  troupe_queue *queue = new_queue();
  shared = beside(queue);
  atomic_store(&left, 100);
  pthread_t threads[8];
  for (int i = 0; i < 8; ++i) CHECK(!pthread_create(&threads[i], NULL, read_shared, NULL));
  troupe_request *request = new_request("shared");
  for (uint64_t i = 0; i < 100; ++i) {
    submit(engine, request, shared, i);
    if (i % 10 == 0) troupe_queue_wake(shared);
  }
  for (int i = 0; i < 8; ++i) CHECK(!pthread_join(threads[i], NULL));
  troupe_queue_free(shared);
  troupe_queue_free(queue);
  troupe_request_free(request);
}

/* ---- queues that go ---- */

/* Queues are freed as soon as their first event came, whoever stands in line at that time; a queue
 * whose thread was called and never came back does not stop the others either. */
static void *reads_once_and_frees(void *raw) {
  job *const self = raw;
  read_once(self);
  troupe_queue_free(self->queue);
  return NULL;
}

static void freed_in_the_middle(troupe_engine *engine) {
  troupe_queue *queue = new_queue();
  char text[301];
  memset(text, 'f', 300);
  text[300] = '\0';
  troupe_request *request = new_request(text);
  for (int round = 0; round < 10; ++round) {
    job jobs[kThreads];
    for (int i = 0; i < kThreads; ++i) {
      jobs[i] = (job){.queue = beside(queue), .timeout_ns = -1, .kind = -1};
      submit(engine, request, jobs[i].queue, 0);
    }
    for (int i = 0; i < kThreads; ++i)
      CHECK(!pthread_create(&jobs[i].thread, NULL, i % 4 ? reads_once_and_frees : read_all,
                            &jobs[i]));
    for (int i = 0; i < kThreads; ++i) CHECK(!pthread_join(jobs[i].thread, NULL));
    for (int i = 0; i < kThreads; i += 4) {
      CHECK(jobs[i].kind == TROUPE_EVENT_DONE && jobs[i].text_size == 300);
      troupe_queue_free(jobs[i].queue);
    }
  }
  troupe_request_free(request);
  troupe_queue_free(queue);
}

/* ---- closing, waking, wrong arguments ---- */

static void closing_ends_all_who_wait(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=1");
  troupe_queue *queue = new_queue();
  char text[3001];
  memset(text, 'w', 3000);
  text[3000] = '\0';
  troupe_request *request = new_request(text);
  job jobs[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    jobs[i] = (job){.queue = beside(queue), .timeout_ns = -1, .kind = -1};
    submit(engine, request, jobs[i].queue, 0);
    CHECK(!pthread_create(&jobs[i].thread, NULL, read_all, &jobs[i]));
  }
  pause_ms(20);
  CHECK_OK(troupe_engine_close(engine, 0));
  for (int i = 0; i < kThreads; ++i) {
    CHECK(!pthread_join(jobs[i].thread, NULL));
    CHECK(jobs[i].kind == TROUPE_EVENT_CANCELLED);
    troupe_queue_free(jobs[i].queue);
  }
  troupe_request_free(request);
  troupe_engine_free(engine);
  troupe_queue_free(queue);
}

static atomic_int woken;

static void *wait_for_nothing(void *raw) {
  troupe_events *events = (troupe_events *)1;
  CHECK_OK(troupe_queue_wait(raw, -1, 0, &events));
  CHECK(!events);
  atomic_fetch_add(&woken, 1);
  return NULL;
}

static void waking_and_wrong_arguments(void) {
  troupe_queue *queue = new_queue(), *in_turn = beside(queue), *none = (troupe_queue *)1;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "`other` is NULL", troupe_queue_new_in_turn(NULL, &none));
  CHECK(!none);
  CHECK_FAILS(TROUPE_ERROR_INVALID, "`out` is NULL", troupe_queue_new_in_turn(queue, NULL));
  troupe_events *events = NULL;
  CHECK_OK(troupe_queue_wait(in_turn, 1000000, 0, &events));
  CHECK(!events);
  troupe_queue_wake(in_turn);
  CHECK_OK(troupe_queue_wait(in_turn, -1, 0, &events));
  CHECK(!events);
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) CHECK(!pthread_create(&threads[i], NULL, wait_for_nothing, in_turn));
  troupe_queue_free(queue);
  while (atomic_load(&woken) < 4) {
    troupe_queue_wake(in_turn);
    pause_ms(1);
  }
  for (int i = 0; i < 4; ++i) CHECK(!pthread_join(threads[i], NULL));
  troupe_queue_free(in_turn);
}

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=1");
  a_thread_for_each_request(engine);
  nobody_waits_for_who_stays_away(engine);
  one_thread_reads_all(engine);
  many_threads_read_one(engine);
  freed_in_the_middle(engine);
  troupe_engine_free(engine);
  closing_ends_all_who_wait(argc, argv);
  waking_and_wrong_arguments();
  return 0;
}
