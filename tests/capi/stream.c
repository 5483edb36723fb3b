/* Tokens arrive as they are made, in order; text is never cut inside a character. */
#include "check.h"

static const char *const kText =
    "\xc3\xa9t\xc3\xa9 \xe2\x82\xac 5 \xf0\x9f\x8e\xad"; /* accents, euro, masks */

static int whole_utf8(const char *text, size_t size) {
  for (size_t i = 0; i < size;) {
    const unsigned char lead = (unsigned char)text[i];
    const size_t n = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if ((lead & 0xc0) == 0x80 || i + n > size) return 0;
    i += n;
  }
  return 1;
}

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=2");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request(kText);
  submit(engine, request, queue, 7);
  char text[256] = {0};
  size_t size = 0, n_tokens = 0;
  int token_events = 0;
  int32_t kind = -1;
  while (!TROUPE_IS_TERMINAL(kind)) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      CHECK(!TROUPE_IS_TERMINAL(kind) && event->user_data == 7);
      kind = event->kind;
      if (kind != TROUPE_EVENT_TOKENS) continue;
      ++token_events;
      CHECK(event->from == (int64_t)n_tokens);
      n_tokens += event->n_tokens;
      CHECK(whole_utf8(event->text, event->text_size));
      memcpy(text + size, event->text, event->text_size);
      size += event->text_size;
    }
    troupe_events_free(events);
  }
  CHECK(kind == TROUPE_EVENT_DONE && strcmp(text, kText) == 0 && n_tokens == strlen(kText) + 1);
  CHECK(token_events >= 4); /* it streamed: the reader was quicker than 2 ms a token */
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
