/* Every number has its bounds, and the message names field, value and bounds; so do endpoints. */
#include "check.h"

#include <math.h>

static void engine_options(int argc, char **argv) {
  troupe_engine *engine = (troupe_engine *)1;
  troupe_engine_options options = options_for(argc, argv);
  options.threads = 0;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "threads is 0: it must be 1 to 1024",
              troupe_engine_open("echo:", &options, &engine));
  CHECK(!engine);
  options = options_for(argc, argv);
  options.max_sequences = 1 << 30;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "max_sequences",
              troupe_engine_open("echo:", &options, &engine));
  options = options_for(argc, argv);
  options.context_length = INT32_MAX;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "context_length is 2147483647: it must be 1 to 16777216",
              troupe_engine_open("echo:", &options, &engine));
  options.context_length = 16777216;
  CHECK_OK(troupe_engine_open("echo:", &options, &engine));
  troupe_engine_free(engine);
  options = options_for(argc, argv);
  options.n_settings = 3;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "troupe_engine_options.settings is NULL but n_settings is 3",
              troupe_engine_open("echo:", &options, &engine));
  const char *const settings[] = {"novalue"};
  options.settings = settings;
  options.n_settings = 1;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "settings[0]", troupe_engine_open("echo:", &options, &engine));
  options = options_for(argc, argv);
  options.library_dir = "/no/such/place";
  CHECK_FAILS(TROUPE_ERROR_NOT_FOUND, "/no/such/place/libtroupe_engine.so",
              troupe_engine_open("echo:", &options, &engine));
  options = options_for(argc, argv);
  CHECK_FAILS(TROUPE_ERROR_INVALID, "http", troupe_engine_open("http://x", &options, &engine));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "empty", troupe_engine_open("", &options, &engine));
  CHECK_FAILS(TROUPE_ERROR_NOT_FOUND, "no/such/folder",
              troupe_engine_open("no/such/folder", &options, &engine));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "echo:", troupe_engine_open("echo:?wat=1", &options, &engine));
}

/* -1 is a time like any other, and not what stands for the default; the longest is for ever. */
static void times(int argc, char **argv, troupe_engine *engine) {
  const char *const unset = "is -1: it must be 1 to 9223372036854775807, or TROUPE_UNSET for the";
  troupe_session_options lease;
  troupe_session_options_init(&lease, sizeof lease);
  troupe_session *session = NULL;
  lease.lease_ns = -1;
  CHECK_FAILS(TROUPE_ERROR_INVALID, unset, troupe_session_new(engine, &lease, &session));
  lease.lease_ns = INT64_MAX;
  CHECK_OK(troupe_session_new(engine, &lease, &session));
  troupe_session_state state;
  state.struct_size = sizeof state;
  CHECK_OK(troupe_session_info(session, &state));
  CHECK(state.lease_left_ns > 0); /* nor has the sum with the time of day run over */
  troupe_session_free(session);
  troupe_engine_options remote;
  troupe_engine_options_init(&remote, sizeof remote);
  remote.connect_timeout_ns = -1;
  troupe_engine *other = NULL;
  CHECK_FAILS(TROUPE_ERROR_INVALID, unset,
              troupe_engine_open("tcp://127.0.0.1:1", &remote, &other));
  troupe_engine_options local = options_for(argc, argv);
  local.kv_bytes = 0; /* here it is -1 */
  CHECK_FAILS(TROUPE_ERROR_INVALID, "kv_bytes is 0: it must be 1 to 9223372036854775807, or -1 for",
              troupe_engine_open("echo:", &local, &other));
  troupe_server_options window;
  troupe_server_options_init(&window, sizeof window);
  window.resume_window_ns = -1;
  troupe_server *server = NULL;
  CHECK_FAILS(TROUPE_ERROR_INVALID,
              "is -1: it must be 0 to 9223372036854775807, or TROUPE_UNSET for",
              troupe_server_open(engine, "tcp://127.0.0.1:*", &window, &server));
}

static void sampling_field(troupe_request *request, const char *part, troupe_sampling *sampling) {
  CHECK_FAILS(TROUPE_ERROR_INVALID, part, troupe_request_sampling(request, sampling));
  troupe_sampling_init(sampling, sizeof *sampling);
}

static void sampling(troupe_request *request) {
  troupe_sampling s;
  troupe_sampling_init(&s, sizeof s);
  CHECK(isnan(s.temperature) && s.max_tokens == -1 && s.seed == TROUPE_UNSET && !s.stop);
  CHECK_OK(troupe_request_sampling(request, &s));
  s.temperature = -0.1f;
  sampling_field(request, "temperature is -0.1", &s);
  s.temperature = INFINITY;
  sampling_field(request, "temperature is inf", &s);
  s.top_p = 0;
  sampling_field(request, "top_p is 0: it must be above 0, at most 1", &s);
  s.top_p = 1.5f;
  sampling_field(request, "top_p", &s);
  s.min_p = -1;
  sampling_field(request, "min_p", &s);
  s.repetition_penalty = 0;
  sampling_field(request, "repetition_penalty is 0: it must be 0.001 to 1000", &s);
  s.repetition_penalty = 0.0005f;
  sampling_field(request, "repetition_penalty is 0.0005: it must be 0.001 to 1000", &s);
  s.presence_penalty = INFINITY;
  sampling_field(request, "presence_penalty", &s);
  s.presence_penalty = 3;
  sampling_field(request, "presence_penalty is 3: it must be -2 to 2", &s);
  s.frequency_penalty = -INFINITY;
  sampling_field(request, "frequency_penalty", &s);
  s.frequency_penalty = -2.5f;
  sampling_field(request, "frequency_penalty is -2.5: it must be -2 to 2", &s);
  s.top_k = -2;
  sampling_field(request, "top_k is -2", &s);
  s.max_tokens = -7;
  sampling_field(request, "max_tokens is -7", &s);
  s.n = 0;
  sampling_field(request, "n is 0: it must be 1 to 128", &s);
  s.logprobs = 65;
  sampling_field(request, "logprobs is 65", &s);
  s.prompt_logprobs = 1000;
  sampling_field(request, "prompt_logprobs", &s);
  s.ignore_eos = 2;
  sampling_field(request, "ignore_eos", &s);
  s.min_tokens = 5;
  s.max_tokens = 4;
  sampling_field(request, "min_tokens is 5: more than max_tokens, 4", &s);
  const char *const stop[] = {"", NULL};
  s.stop = stop;
  s.n_stop = 1;
  sampling_field(request, "stop[0] is empty", &s);
  s.stop = stop + 1;
  s.n_stop = 1;
  sampling_field(request, "stop[0] is NULL", &s);
  s.n_stop = 1;
  sampling_field(request, "stop is NULL", &s);
  s.n_stop_tokens = 1;
  sampling_field(request, "troupe_sampling.stop_tokens is NULL but n_stop_tokens is 1", &s);
  const int32_t token = 7;
  s.n_bias = 2;
  sampling_field(request, "troupe_sampling.bias_tokens is NULL but n_bias is 2", &s);
  s.bias_tokens = &token;
  s.n_bias = 1;
  sampling_field(request, "troupe_sampling.bias_values is NULL but n_bias is 1", &s);
  s.n_bad_words = 100000;
  CHECK_FAILS(TROUPE_ERROR_LIMIT, "n_bad_words is 100000", troupe_request_sampling(request, &s));
}

/* What the struct takes the engine takes. */
static void penalties(troupe_engine *engine, troupe_queue *queue) {
  troupe_sampling s;
  troupe_sampling_init(&s, sizeof s);
  s.presence_penalty = 2;
  s.frequency_penalty = -2;
  troupe_request *request = new_request("most");
  CHECK_OK(troupe_request_sampling(request, &s));
  submit(engine, request, queue, 0);
  CHECK(strcmp(collect(queue)->text, "most") == 0);
  troupe_request_free(request);
}

static void requests(troupe_engine *engine, troupe_queue *queue, troupe_request *request) {
  CHECK_FAILS(TROUPE_ERROR_INVALID, "no prompt", troupe_submit(engine, request, queue, 0, NULL));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "did you mean \"priority\"",
              troupe_request_option(request, "priorty", "1"));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "did you mean \"score\"",
              troupe_request_option(request, "task", "scores"));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "-100 to 100",
              troupe_request_option(request, "priority", "999"));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "role is 12", troupe_request_message(request, 12));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "0xFF at offset 2", troupe_request_text(request, "ab\xff", 3));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "offset 0", troupe_request_text(request, "\xed\xa0\x80", 3));
  const int32_t negative[] = {1, -4};
  CHECK_FAILS(TROUPE_ERROR_INVALID, "tokens[1] is -4", troupe_request_tokens(request, negative, 2));
  CHECK_OK(troupe_request_text(request, "raw", 3));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "troupe_request_clear",
              troupe_request_message(request, TROUPE_ROLE_USER));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "troupe_request_clear",
              troupe_request_messages(request, "[]", 2));
  CHECK_OK(troupe_request_constraint(request, TROUPE_CONSTRAINT_REGEX, "a+", 2));
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "constraint",
              troupe_submit(engine, request, queue, 0, NULL));
  CHECK_OK(troupe_request_clear(request));
  CHECK_OK(troupe_request_text(request, "clean again", 11));
  submit(engine, request, queue, 0);
  CHECK(strcmp(collect(queue)->text, "clean again") == 0);
}

int main(int argc, char **argv) {
  engine_options(argc, argv);
  troupe_request *request = new_request(NULL);
  sampling(request);
  CHECK_OK(troupe_request_clear(request));
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  times(argc, argv, engine);
  troupe_queue *queue = new_queue();
  penalties(engine, queue);
  requests(engine, queue, request);
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
