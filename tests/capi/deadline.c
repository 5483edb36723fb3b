/* A request that takes longer than its deadline fails with DEADLINE; bad deadlines are refused. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=5");
  troupe_queue *queue = new_queue();
  char text[2001];
  memset(text, 'z', 2000);
  text[2000] = '\0';
  troupe_request *request = new_request(text);
  CHECK_OK(troupe_request_option(request, "deadline_ms", "100"));
  submit(engine, request, queue, 0);
  const answer *a = collect(queue);
  CHECK(a->kind == TROUPE_EVENT_FAILED && a->error_code == TROUPE_ERROR_DEADLINE);
  CHECK(a->finish_reason == TROUPE_FINISH_ERROR);
  CHECK(a->n_tokens < 2000);
  CHECK_FAILS(TROUPE_ERROR_INVALID, "deadline_ms",
              troupe_request_option(request, "deadline_ms", "0"));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "deadline_ms",
              troupe_request_option(request, "deadline_ms", "soon"));
  CHECK_FAILS(TROUPE_ERROR_INVALID, "deadline_ms", troupe_request_option(request, "deadline", "5"));
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
