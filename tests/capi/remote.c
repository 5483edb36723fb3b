/* One handle for near and far: an engine served, reached over the wire, with keys and without, and
 * what does not make sense from afar refused by name. */
#include "check.h"

static troupe_server *serve(troupe_engine *engine, const troupe_server_options *options) {
  troupe_server *server = NULL;
  CHECK_OK(troupe_server_open(engine, "tcp://127.0.0.1:*", options, &server));
  CHECK(strncmp(troupe_server_endpoint(server), "tcp://127.0.0.1:", 16) == 0);
  return server;
}

static void answers(troupe_engine *engine, const char *text) {
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request(text);
  static answer a;
  submit(engine, request, queue, 5);
  memset(&a, 0, sizeof a);
  a.kind = -1;
  while (!TROUPE_IS_TERMINAL(a.kind)) {
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      CHECK(event->user_data == 5);
      answer_take(&a, event);
    }
    troupe_events_free(events);
  }
  CHECK(a.kind == TROUPE_EVENT_DONE && strcmp(a.text, text) == 0);
  CHECK(a.finish_reason == TROUPE_FINISH_STOP && a.prompt_tokens == (int64_t)strlen(text));
  troupe_request_free(request);
  troupe_queue_free(queue);
}

static void refused_by_name(const char *endpoint) {
  troupe_engine *engine = NULL;
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  options.device = "cuda";
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "troupe_engine_options.device",
              troupe_engine_open(endpoint, &options, &engine));
  troupe_engine_options_init(&options, sizeof options);
  options.max_sequences = 3;
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "max_sequences",
              troupe_engine_open(endpoint, &options, &engine));
  troupe_engine_options_init(&options, sizeof options);
  options.server_key = "too short";
  CHECK_FAILS(TROUPE_ERROR_INVALID, "server_key has 9 characters",
              troupe_engine_open(endpoint, &options, &engine));
  const char *setting = "colour=red";
  troupe_engine_options_init(&options, sizeof options);
  options.settings = &setting;
  options.n_settings = 1;
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "colour", troupe_engine_open(endpoint, &options, &engine));
}

static void all_of_it(troupe_engine *near, troupe_engine *far) {
  troupe_info a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
  CHECK_OK(troupe_engine_info(near, &a));
  CHECK_OK(troupe_engine_info(far, &b));
  CHECK(strcmp(a.family, b.family) == 0 && a.vocab_size == b.vocab_size);
  CHECK((a.capabilities & TROUPE_CAN_SERVE) && !(b.capabilities & TROUPE_CAN_SERVE));
  troupe_stats stats = {.struct_size = sizeof stats};
  CHECK_OK(troupe_engine_stats(far, &stats));
  troupe_bytes *bytes = NULL;
  CHECK_OK(troupe_engine_metrics(far, &bytes));
  CHECK(bytes->size > 0);
  troupe_bytes_free(bytes);
  CHECK_OK(troupe_tokenize(far, "ab", 2, 0, &bytes));
  CHECK(bytes->size == 8 && ((const int32_t *)bytes->data)[1] == 'b');
  troupe_bytes_free(bytes);
  troupe_session *session = NULL, *fork = NULL;
  CHECK_OK(troupe_session_new(far, NULL, &session));
  CHECK_OK(troupe_session_fork(session, &fork));
  troupe_session_state state = {.struct_size = sizeof state};
  CHECK_OK(troupe_session_info(fork, &state));
  CHECK(state.tokens == 0);
  troupe_session_free(fork);
  troupe_session_free(session);
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "remote", troupe_engine_set_option(far, "a", "b"));
  troupe_server *server = NULL;
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "cannot serve",
              troupe_server_open(far, "tcp://127.0.0.1:*", NULL, &server));
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "only folders",
              troupe_inspect("tcp://127.0.0.1:1", NULL, &bytes));
}

static void with_keys(troupe_engine *near) {
  char server_public[TROUPE_KEY_SIZE], server_secret[TROUPE_KEY_SIZE];
  CHECK_OK(troupe_keygen(server_public, server_secret));
  CHECK(strlen(server_public) == 40 && strcmp(server_public, server_secret) != 0);
  troupe_server_options options;
  troupe_server_options_init(&options, sizeof options);
  options.public_key = server_public;
  options.secret_key = server_secret;
  troupe_server *server = serve(near, &options);
  troupe_engine_options remote;
  troupe_engine_options_init(&remote, sizeof remote);
  remote.server_key = server_public;
  troupe_engine *far = NULL;
  CHECK_OK(troupe_engine_open(troupe_server_endpoint(server), &remote, &far));
  answers(far, "nobody else reads this");
  troupe_engine *plain = NULL;
  troupe_engine_options_init(&remote, sizeof remote);
  remote.connect_timeout_ns = 1000000000;
  troupe_error *error = troupe_engine_open(troupe_server_endpoint(server), &remote, &plain);
  CHECK(error && !plain);
  troupe_error_free(error);
  troupe_engine_free(far);
  troupe_server_free(server);
}

int main(int argc, char **argv) {
  troupe_engine *near = open_engine(argc, argv, "echo:");
  troupe_server *server = NULL;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "--allow-plaintext",
              troupe_server_open(near, "tcp://0.0.0.0:*", NULL, &server));
  troupe_server_options options;
  troupe_server_options_init(&options, sizeof options);
  const char *setting = "requets=1";
  options.settings = &setting;
  options.n_settings = 1;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "requests",
              troupe_server_open(near, "tcp://127.0.0.1:*", &options, &server));

  server = serve(near, NULL);
  refused_by_name(troupe_server_endpoint(server));
  troupe_engine *far = NULL;
  CHECK_OK(troupe_engine_open(troupe_server_endpoint(server), NULL, &far));
  answers(far, "from near and far");
  answers(near, "from near and far");
  all_of_it(near, far);
  with_keys(near);

  /* A server that stops says so; a request after it is refused, and can be tried again elsewhere.
   */
  CHECK_OK(troupe_server_close(server, 0));
  CHECK_OK(troupe_server_close(server, 0));
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("too late");
  troupe_error *error = troupe_submit(far, request, queue, 0, NULL);
  CHECK(error && troupe_error_retryable(error));
  troupe_error_free(error);
  answers(near, "the engine is still open");
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(far);
  troupe_server_free(server);
  troupe_engine_free(near);
  return 0;
}
