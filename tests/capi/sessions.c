/* A session keeps a conversation; it can be forked and rewound; it belongs to its engine. */
#include "check.h"

static const answer *ask_in(troupe_engine *engine, troupe_session *session, const char *text) {
  troupe_request *request = new_request(text);
  CHECK_OK(troupe_request_session(request, session));
  const answer *a = answer_to(request, engine);
  CHECK(a->kind == TROUPE_EVENT_DONE);
  return a;
}

static int64_t tokens_in(troupe_session *session) {
  troupe_session_state state;
  state.struct_size = sizeof state;
  CHECK_OK(troupe_session_info(session, &state));
  CHECK(state.lease_left_ns > 0);
  return state.tokens;
}

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_session *session = NULL;
  troupe_session_options options;
  troupe_session_options_init(&options, sizeof options);
  options.lease_ns = INT64_C(60000000000);
  CHECK_OK(troupe_session_new(engine, &options, &session));
  CHECK(tokens_in(session) == 0);
  CHECK(strcmp(ask_in(engine, session, "first turn")->text, "first turn") == 0);
  const int64_t after_one = tokens_in(session);
  CHECK(after_one >= 20); /* prompt and answer */

  troupe_session *other = NULL;
  CHECK_OK(troupe_session_fork(session, &other));
  CHECK(tokens_in(other) == after_one);
  CHECK(strcmp(ask_in(engine, other, "another way")->text, "another way") == 0);
  CHECK(tokens_in(other) > after_one && tokens_in(session) == after_one);

  CHECK_OK(troupe_session_rewind(session, 10));
  CHECK(tokens_in(session) == 10);
  CHECK_FAILS(TROUPE_ERROR_INVALID, "tokens", troupe_session_rewind(session, -1));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "11", troupe_session_rewind(session, 11));
  CHECK_OK(troupe_session_rewind(session, 0)); /* and all of it */
  CHECK(strcmp(ask_in(engine, session, "second turn")->text, "second turn") == 0);

  /* Another engine does not know it. */
  troupe_engine *stranger = open_engine(argc, argv, "echo:");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("x");
  CHECK_OK(troupe_request_session(request, session));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "session", troupe_submit(stranger, request, queue, 0, NULL));
  troupe_session_free(session); /* the request only knew its number */
  troupe_error *refused = troupe_submit(engine, request, queue, 0, NULL); /* now, or when it runs */
  CHECK((refused ? troupe_error_code(refused) : collect(queue)->error_code) ==
        TROUPE_ERROR_NOT_FOUND);
  troupe_error_free(refused);
  options.lease_ns = 0;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "lease_ns", troupe_session_new(engine, &options, &session));
  CHECK(!session);
  troupe_engine_free(engine);
  troupe_session_free(other); /* after its engine */
  troupe_engine_free(stranger);
  troupe_request_free(request);
  troupe_queue_free(queue);
  return 0;
}
