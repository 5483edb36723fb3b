/* What the tests of the C ABI share: CHECK, and the few steps that nearly all of them begin with.
 * Each test is a program: argv[1] is the folder of the engine library under test. */
#ifndef TROUPE_TESTS_CHECK_H
#define TROUPE_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <troupe.h>

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

#define CHECK_OK(call) check_ok((call), #call, __FILE__, __LINE__)
#define CHECK_FAILS(expected, part, call) \
  check_fails((expected), (part), (call), #call, __FILE__, __LINE__)
#define UNUSED(x) ((void)(x))

static inline void check_ok(troupe_error *error, const char *call, const char *file, int line) {
  if (!error) return;
  fprintf(stderr, "%s:%d: %s\n  failed: %s: %s\n", file, line, call,
          troupe_error_name(troupe_error_code(error)), troupe_error_message(error));
  exit(1);
}

/* `call` fails with this code, and its message has `part` in it. */
static inline void check_fails(int32_t expected, const char *part, troupe_error *error,
                               const char *call, const char *file, int line) {
  const int32_t code = troupe_error_code(error);
  if (code == expected && strstr(troupe_error_message(error), part)) {
    troupe_error_free(error);
    return;
  }
  fprintf(stderr, "%s:%d: %s\n  expected %s with \"%s\"\n  got %s: %s\n", file, line, call,
          troupe_error_name(expected), part, troupe_error_name(code), troupe_error_message(error));
  exit(1);
}

static inline const char *library_dir(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s FOLDER-OF-libtroupe_engine.so\n", argv[0]);
    exit(2);
  }
  return argv[1];
}

static inline troupe_engine_options options_for(int argc, char **argv) {
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  options.library_dir = library_dir(argc, argv);
  return options;
}

static inline troupe_engine *open_engine(int argc, char **argv, const char *endpoint) {
  troupe_engine_options options = options_for(argc, argv);
  troupe_engine *engine = NULL;
  CHECK_OK(troupe_engine_open(endpoint, &options, &engine));
  CHECK(engine);
  return engine;
}

static inline troupe_queue *new_queue(void) {
  troupe_queue *queue = NULL;
  CHECK_OK(troupe_queue_new(&queue));
  return queue;
}

static inline troupe_request *new_request(const char *text) {
  troupe_request *request = NULL;
  CHECK_OK(troupe_request_new(&request));
  if (text) CHECK_OK(troupe_request_text(request, text, strlen(text)));
  return request;
}

static inline uint64_t submit(troupe_engine *engine, const troupe_request *request,
                              troupe_queue *queue, uint64_t user_data) {
  uint64_t id = 0;
  CHECK_OK(troupe_submit(engine, request, queue, user_data, &id));
  CHECK(id != 0);
  return id;
}

/* Everything that came of one request. */
typedef struct answer {
  char text[1 << 16];
  size_t size;
  int32_t tokens[1 << 16];
  size_t n_tokens;
  int32_t kind; /* of the terminal event */
  int32_t finish_reason;
  int32_t error_code;
  uint32_t events;
  int64_t prompt_tokens;
  int64_t completion_tokens;
} answer;

static inline void answer_take(answer *a, const troupe_event *event) {
  CHECK(!TROUPE_IS_TERMINAL(a->kind)); /* the terminal event is the last */
  a->events++;
  a->kind = event->kind;
  CHECK(a->size + event->text_size < sizeof a->text);
  CHECK(a->n_tokens + event->n_tokens <= sizeof a->tokens / sizeof a->tokens[0]);
  if (event->kind == TROUPE_EVENT_TOKENS) {
    CHECK(event->from == (int64_t)a->n_tokens);
  } else {
    CHECK(event->n_tokens == 0 && event->text_size == 0);
  }
  memcpy(a->text + a->size, event->text, event->text_size);
  a->size += event->text_size;
  a->text[a->size] = '\0';
  if (event->n_tokens) {
    memcpy(a->tokens + a->n_tokens, event->tokens, event->n_tokens * sizeof(int32_t));
  }
  a->n_tokens += event->n_tokens;
  if (!TROUPE_IS_TERMINAL(event->kind)) return;
  a->finish_reason = event->finish_reason;
  a->error_code = troupe_error_code(event->error);
  a->prompt_tokens = event->prompt_tokens;
  a->completion_tokens = event->completion_tokens;
}

/* Waits for the end of the one request in this queue. The result is static: one at a time. */
static inline const answer *collect(troupe_queue *queue) {
  static answer a;
  memset(&a, 0, sizeof a);
  a.kind = -1;
  while (!TROUPE_IS_TERMINAL(a.kind)) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, INT64_C(30000000000), 0, &events));
    CHECK(events); /* nothing for 30 s: it hangs */
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) answer_take(&a, TROUPE_EVENT(events, i));
    troupe_events_free(events);
  }
  return &a;
}

/* Frees the request, too. */
static inline const answer *answer_to(troupe_request *request, troupe_engine *engine) {
  troupe_queue *queue = new_queue();
  submit(engine, request, queue, 0);
  const answer *a = collect(queue);
  troupe_request_free(request);
  troupe_queue_free(queue);
  return a;
}

static inline const answer *ask(troupe_engine *engine, const char *text) {
  return answer_to(new_request(text), engine);
}

#endif
