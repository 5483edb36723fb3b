/* 100,000 submits and cancels leave memory where it was. argv[2] sets another number. */
#include "check.h"

#include <malloc.h>
#include <unistd.h>

static long resident_kb(void) {
  long pages = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file && fscanf(file, "%ld %ld", &pages, &resident) == 2);
  fclose(file);
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycle(troupe_engine *engine, const troupe_request *request, troupe_queue *queue,
                  int n) {
  int in_flight = 0;
  while (n > 0 || in_flight > 0) {
    for (; n > 0 && in_flight < 64; --n, ++in_flight) {
      troupe_cancel(engine, submit(engine, request, queue, 0));
    }
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      in_flight -= TROUPE_IS_TERMINAL(TROUPE_EVENT(events, i)->kind);
    }
    troupe_events_free(events);
  }
}

int main(int argc, char **argv) {
  const int cycles = argc > 2 ? atoi(argv[2]) : 100000;
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("to be cancelled");
  cycle(engine, request, queue, cycles / 5); /* until arenas have found their size */
  malloc_trim(0);
  const long before = resident_kb();
  cycle(engine, request, queue, cycles);
  malloc_trim(0);
  const long after = resident_kb();
  printf("resident: %ld kB before, %ld kB after %d cycles\n", before, after, cycles);
  CHECK(after - before < before / 50 + 2048);
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
