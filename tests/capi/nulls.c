/* NULL everywhere: an answer that names the argument, or nothing at all. Never a crash. */
#include "check.h"

#define NULL_OF(name, call) CHECK_FAILS(TROUPE_ERROR_INVALID, "`" name "` is NULL", call)

static void library(void) {
  CHECK(troupe_error_code(NULL) == TROUPE_OK && troupe_error_retryable(NULL) == 0);
  CHECK(strcmp(troupe_error_message(NULL), "") == 0);
  CHECK(strcmp(troupe_error_name(-1), "UNKNOWN") == 0 && strcmp(troupe_error_name(0), "OK") == 0);
  CHECK(troupe_sizeof(NULL) == 0 && troupe_sizeof("troupe_nothing") == 0);
  CHECK(troupe_queue_fd(NULL) == -1 && strcmp(troupe_server_endpoint(NULL), "") == 0);
  troupe_error_free(NULL);
  troupe_bytes_free(NULL);
  troupe_events_free(NULL);
  troupe_queue_free(NULL);
  troupe_queue_wake(NULL);
  troupe_engine_free(NULL);
  troupe_request_free(NULL);
  troupe_session_free(NULL);
  troupe_server_free(NULL);
  troupe_cancel(NULL, 3);
  troupe_log_set(TROUPE_LOG_INFO, NULL, NULL);
  troupe_engine_options_init(NULL, sizeof(troupe_engine_options));
  troupe_sampling_init(NULL, 0);
  troupe_image_init(NULL, 8);
  troupe_session_options_init(NULL, 16);
  troupe_server_options_init(NULL, 16);
}

static void no_handle(void) {
  troupe_bytes *bytes = NULL;
  troupe_session *session = NULL;
  troupe_server *server = NULL;
  troupe_info info;
  troupe_stats stats;
  troupe_session_state state;
  NULL_OF("engine", troupe_engine_close(NULL, 0));
  NULL_OF("engine", troupe_engine_info(NULL, &info));
  NULL_OF("engine", troupe_engine_stats(NULL, &stats));
  NULL_OF("engine", troupe_engine_metrics(NULL, &bytes));
  NULL_OF("engine", troupe_engine_set_option(NULL, "a", "b"));
  NULL_OF("engine", troupe_tokenize(NULL, "a", 1, 0, &bytes));
  NULL_OF("engine", troupe_detokenize(NULL, NULL, 0, 0, &bytes));
  NULL_OF("engine", troupe_render(NULL, NULL, &bytes));
  NULL_OF("engine", troupe_submit(NULL, NULL, NULL, 0, NULL));
  NULL_OF("engine", troupe_session_new(NULL, NULL, &session));
  NULL_OF("engine", troupe_server_open(NULL, "tcp://127.0.0.1:0", NULL, &server));
  NULL_OF("server", troupe_server_close(NULL, 0));
  NULL_OF("public_key", troupe_keygen(NULL, NULL));
  NULL_OF("session", troupe_session_fork(NULL, &session));
  NULL_OF("session", troupe_session_rewind(NULL, 0));
  NULL_OF("session", troupe_session_info(NULL, &state));
  NULL_OF("endpoint", troupe_inspect(NULL, NULL, &bytes));
  NULL_OF("request", troupe_request_clear(NULL));
  NULL_OF("request", troupe_request_message(NULL, TROUPE_ROLE_USER));
  NULL_OF("request", troupe_request_text(NULL, "a", 1));
  NULL_OF("request", troupe_request_tokens(NULL, NULL, 0));
  NULL_OF("request", troupe_request_image(NULL, NULL));
  NULL_OF("request", troupe_request_sampling(NULL, NULL));
  NULL_OF("request", troupe_request_constraint(NULL, 0, NULL, 0));
  NULL_OF("request", troupe_request_messages(NULL, "[]", 2));
  NULL_OF("request", troupe_request_tools(NULL, "[]", 2));
  NULL_OF("request", troupe_request_documents(NULL, "[]", 2));
  NULL_OF("request", troupe_request_template_kwargs(NULL, "{}", 2));
  NULL_OF("request", troupe_request_session(NULL, NULL));
  NULL_OF("request", troupe_request_option(NULL, "task", "score"));
  troupe_events *events = NULL;
  NULL_OF("queue", troupe_queue_wait(NULL, 0, 0, &events));
}

static void no_argument(troupe_engine *engine) {
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("x");
  troupe_engine *other = NULL;
  NULL_OF("out", troupe_queue_new(NULL));
  NULL_OF("out", troupe_request_new(NULL));
  NULL_OF("out", troupe_engine_open("echo:", NULL, NULL));
  NULL_OF("endpoint", troupe_engine_open(NULL, NULL, &other));
  NULL_OF("out", troupe_queue_wait(queue, 0, 0, NULL));
  NULL_OF("out", troupe_engine_info(engine, NULL));
  NULL_OF("out", troupe_engine_stats(engine, NULL));
  NULL_OF("out", troupe_engine_metrics(engine, NULL));
  NULL_OF("key", troupe_engine_set_option(engine, NULL, "x"));
  NULL_OF("value", troupe_engine_set_option(engine, "x", NULL));
  troupe_bytes *bytes = NULL;
  NULL_OF("text", troupe_tokenize(engine, NULL, 1, 0, &bytes));
  NULL_OF("out", troupe_tokenize(engine, "a", 1, 0, NULL));
  NULL_OF("tokens", troupe_detokenize(engine, NULL, 1, 0, &bytes));
  NULL_OF("request", troupe_render(engine, NULL, &bytes));
  NULL_OF("request", troupe_submit(engine, NULL, queue, 0, NULL));
  NULL_OF("queue", troupe_submit(engine, request, NULL, 0, NULL));
  NULL_OF("out", troupe_session_new(engine, NULL, NULL));
  troupe_server *server = NULL;
  NULL_OF("bind", troupe_server_open(engine, NULL, NULL, &server));
  NULL_OF("text", troupe_request_text(request, NULL, 1));
  NULL_OF("tokens", troupe_request_tokens(request, NULL, 1));
  NULL_OF("image", troupe_request_image(request, NULL));
  NULL_OF("sampling", troupe_request_sampling(request, NULL));
  NULL_OF("key", troupe_request_option(request, NULL, "1"));
  NULL_OF("value", troupe_request_option(request, "priority", NULL));
  CHECK_OK(troupe_request_text(request, NULL, 0)); /* nothing, of nothing */
  CHECK_OK(troupe_request_tokens(request, NULL, 0));
  CHECK_OK(troupe_request_session(request, NULL));
  CHECK_OK(troupe_submit(engine, request, queue, 0, NULL)); /* who needs no id gives no place */
  CHECK(strcmp(collect(queue)->text, "x") == 0);
  troupe_request_free(request);
  troupe_queue_free(queue);
}

int main(int argc, char **argv) {
  library();
  no_handle();
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  no_argument(engine);
  troupe_engine_free(engine);
  return 0;
}
