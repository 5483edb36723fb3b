/* Many streams at once from afar: so many requests over so many connections, all waited for on one
 * queue, and every one of them the same answer to the same question.
 *
 *   capi_many_streams ENDPOINT STREAMS CONNECTIONS QUESTION [SERVER_KEY PUBLIC_KEY SECRET_KEY]
 *
 * Prints how many streams had the answer, and the answer. */
#include "check.h"

enum { MAX_CONNECTIONS = 64, MAX_STREAMS = 4096, MAX_TEXT = 4096 };

typedef struct {
  char text[MAX_TEXT];
  size_t size;
  int ends;
  int32_t kind;
} stream;

static stream streams[MAX_STREAMS];

static void take(const troupe_event *event) {
  CHECK(event->user_data < MAX_STREAMS);
  stream *const s = &streams[event->user_data];
  CHECK(s->ends == 0);
  if (event->kind == TROUPE_EVENT_TOKENS) {
    CHECK(s->size + event->text_size < MAX_TEXT);
    memcpy(s->text + s->size, event->text, event->text_size);
    s->size += event->text_size;
  }
  if (!TROUPE_IS_TERMINAL(event->kind)) return;
  ++s->ends;
  s->kind = event->kind;
}

int main(int argc, char **argv) {
  CHECK(argc == 5 || argc == 8);
  const int n = atoi(argv[2]), connections = atoi(argv[3]);
  CHECK(n > 0 && n <= MAX_STREAMS && connections > 0 && connections <= MAX_CONNECTIONS);
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  if (argc == 8) {
    options.server_key = argv[5];
    options.client_public_key = argv[6];
    options.client_secret_key = argv[7];
  }
  troupe_engine *engines[MAX_CONNECTIONS];
  for (int i = 0; i < connections; ++i)
    CHECK_OK(troupe_engine_open(argv[1], &options, &engines[i]));
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request(argv[4]);
  troupe_sampling sampling;
  troupe_sampling_init(&sampling, sizeof sampling);
  sampling.temperature = 0;
  sampling.max_tokens = 12;
  CHECK_OK(troupe_request_sampling(request, &sampling));
  for (int i = 0; i < n; ++i) submit(engines[i % connections], request, queue, (uint64_t)i);
  for (int ended = 0; ended < n;) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      take(event);
      ended += TROUPE_IS_TERMINAL(event->kind) ? 1 : 0;
    }
    troupe_events_free(events);
  }
  for (int i = 0; i < n; ++i) {
    CHECK(streams[i].ends == 1 && streams[i].kind == TROUPE_EVENT_DONE);
    CHECK(strcmp(streams[i].text, streams[0].text) == 0);
  }
  printf("%d %s\n", n, streams[0].text);
  troupe_request_free(request);
  troupe_queue_free(queue);
  for (int i = 0; i < connections; ++i) troupe_engine_free(engines[i]);
  return 0;
}
