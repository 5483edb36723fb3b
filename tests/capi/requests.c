/* 100,000 short requests leave resident memory within 2 % of what it is after the first of them, once the
 * engine rests: it gives back what it took a second after the last answer, and nobody has to ask for it.
 * argv[2] sets another number of requests, argv[3] how many are in flight. */
#include "check.h"

#include <time.h>

/* Counted page by page: the short figures lag behind by some pages per CPU (Linux < 6.17). */
static long resident_kb(void) {
  FILE *file = fopen("/proc/self/smaps_rollup", "r");
  char line[256];
  long resident = 0;
  CHECK(file);
  while (fgets(line, sizeof line, file) && sscanf(line, "Rss: %ld", &resident) != 1) {
  }
  fclose(file);
  CHECK(resident > 0);
  return resident;
}

static void rest(void) {
  const struct timespec two_seconds = {2, 0};
  nanosleep(&two_seconds, NULL);
}

static void ask_one(troupe_engine *engine, troupe_queue *queue, int number) {
  char text[64];
  const int length = snprintf(text, sizeof text, "%.*s %d", 1 + number % 40,
                              "what is the answer to this short question", number);
  troupe_request *request = NULL;
  CHECK_OK(troupe_request_new(&request));
  CHECK_OK(troupe_request_text(request, text, (size_t)length));
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.max_tokens = 1 + number % 7;
  CHECK_OK(troupe_request_sampling(request, &sampling));
  submit(engine, request, queue, (uint64_t)number);
  troupe_request_free(request);
}

/* Requests `from` to `until`, and then a rest. */
static void answer_all(troupe_engine *engine, troupe_queue *queue, int from, int until, int at_once) {
  for (int next = from, in_flight = 0; next < until || in_flight > 0;) {
    for (; next < until && in_flight < at_once; ++next, ++in_flight) ask_one(engine, queue, next);
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      CHECK(event->kind != TROUPE_EVENT_FAILED);
      in_flight -= TROUPE_IS_TERMINAL(event->kind);
    }
    troupe_events_free(events);
  }
  rest();
}

int main(int argc, char **argv) {
  const int requests = argc > 2 ? atoi(argv[2]) : 100000;
  const int at_once = argc > 3 ? atoi(argv[3]) : 1000;
  troupe_engine *engine = open_engine(argc, argv, "echo:?kv_tokens=65536&context=4096");
  troupe_queue *queue = new_queue();
  const int first = requests / 10;
  answer_all(engine, queue, 0, first, at_once);
  const long before = resident_kb();
  answer_all(engine, queue, first, requests, at_once);
  const long after = resident_kb();
  printf("{\"requests\": %d, \"in_flight\": %d, \"resident_kib\": [%ld, %ld], \"growth_percent\": %.2f}\n",
         requests, at_once, before, after, 100.0 * (double)(after - before) / (double)before);
  CHECK(after - before <= before / 50);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
