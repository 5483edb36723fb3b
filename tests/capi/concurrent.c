/* 1,000 requests at once on one queue: each gets its own answer and one terminal event. */
#include "check.h"

enum { kRequests = 1000 };
static char said[kRequests][64];
static size_t size_of[kRequests];
static int ended[kRequests];

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  for (uint64_t i = 0; i < kRequests; ++i) {
    char text[64];
    snprintf(text, sizeof text, "this is request number %d of many", (int)i);
    troupe_request *request = new_request(text);
    submit(engine, request, queue, i);
    troupe_request_free(request);
  }
  for (int left = kRequests; left > 0;) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(60000000000), 64, &events));
    CHECK(events && events->count <= 64);
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      const uint64_t key = event->user_data;
      CHECK(key < kRequests && !ended[key]);
      CHECK(size_of[key] + event->text_size < 64);
      memcpy(said[key] + size_of[key], event->text, event->text_size);
      size_of[key] += event->text_size;
      if (!TROUPE_IS_TERMINAL(event->kind)) continue;
      CHECK(event->kind == TROUPE_EVENT_DONE);
      ended[key] = 1;
      --left;
    }
    troupe_events_free(events);
  }
  for (int i = 0; i < kRequests; ++i) {
    char text[64];
    snprintf(text, sizeof text, "this is request number %d of many", i);
    CHECK(strcmp(said[i], text) == 0);
  }
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
