/* After fork() the child is told so by every call, and the parent goes on. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static int failures = 0;

static void expect_forked(troupe_error *error) {
  if (troupe_error_code(error) != TROUPE_ERROR_FORKED) ++failures;
  if (!strstr(troupe_error_message(error), "fork")) ++failures;
  troupe_error_free(error);
}

static int child(troupe_engine *engine, troupe_queue *queue, troupe_queue *in_turn,
                 troupe_request *request, const char *folder) {
  troupe_events *events = (troupe_events *)1;
  expect_forked(troupe_queue_wait(queue, -1, 0, &events));
  if (events) ++failures;
  uint64_t id;
  expect_forked(troupe_submit(engine, request, queue, 0, &id));
  expect_forked(troupe_engine_close(engine, -1));
  troupe_info info;
  info.struct_size = sizeof info;
  expect_forked(troupe_engine_info(engine, &info));
  troupe_queue *other = NULL;
  expect_forked(troupe_queue_new(&other));
  expect_forked(troupe_queue_new_in_turn(queue, &other));
  expect_forked(troupe_queue_wait(in_turn, -1, 0, &events));
  troupe_queue_wake(in_turn);
  troupe_queue_free(in_turn);
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  options.library_dir = folder;
  troupe_engine *second = NULL;
  expect_forked(troupe_engine_open("echo:", &options, &second));
  if (troupe_queue_fd(queue) != -1) ++failures;
  troupe_cancel(engine, 1);
  troupe_queue_wake(queue);
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return failures;
}

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:?step_ms=1");
  troupe_queue *queue = new_queue();
  troupe_request *request = new_request("still here after the fork");
  troupe_queue *in_turn = NULL;
  CHECK_OK(troupe_queue_new_in_turn(queue, &in_turn));
  submit(engine, request, queue, 0);
  submit(engine, request, in_turn, 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) _exit(child(engine, queue, in_turn, request, argv[1]));
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(strcmp(collect(queue)->text, "still here after the fork") == 0);
  CHECK(strcmp(collect(in_turn)->text, "still here after the fork") == 0);
  troupe_queue_free(in_turn);
  troupe_request_free(request);
  troupe_engine_free(engine);
  troupe_queue_free(queue);
  return 0;
}
