/* Many threads on one engine and one queue: they submit, cancel, ask, wait and wake at once. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { kThreads = 8, kEach = 200 };
static troupe_engine *engine;
static troupe_queue *queue;
static atomic_int terminals;

static void *submitter(void *seed) {
  troupe_request *request = new_request("one of many threads");
  for (int i = 0; i < kEach; ++i) {
    const uint64_t id = submit(engine, request, queue, (uintptr_t)seed);
    if (i % 3 == 0) troupe_cancel(engine, id);
    if (i % 50 == 0) {
      troupe_stats stats;
      stats.struct_size = sizeof stats;
      CHECK_OK(troupe_engine_stats(engine, &stats));
      troupe_bytes *ids = NULL;
      CHECK_OK(troupe_tokenize(engine, "abc", 3, 0, &ids));
      CHECK(ids->size == 12);
      troupe_bytes_free(ids);
      troupe_queue_wake(queue);
    }
  }
  troupe_request_free(request);
  return NULL;
}

static void *reader(void *unused) {
  UNUSED(unused);
  while (atomic_load(&terminals) < kThreads * kEach) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 16, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      if (TROUPE_IS_TERMINAL(TROUPE_EVENT(events, i)->kind)) atomic_fetch_add(&terminals, 1);
    }
    troupe_events_free(events);
  }
  troupe_queue_wake(queue); /* the others may be waiting for what will not come */
  return NULL;
}

int main(int argc, char **argv) {
  engine = open_engine(argc, argv, "echo:");
  queue = new_queue();
  pthread_t threads[kThreads + 3];
  for (uintptr_t i = 0; i < kThreads; ++i) {
    CHECK(pthread_create(&threads[i], NULL, submitter, (void *)i) == 0);
  }
  for (int i = 0; i < 3; ++i) {
    CHECK(pthread_create(&threads[kThreads + i], NULL, reader, NULL) == 0);
  }
  for (int i = 0; i < kThreads + 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(atomic_load(&terminals) == kThreads * kEach);
  troupe_engine_free(engine);
  troupe_queue_free(queue);
  return 0;
}
