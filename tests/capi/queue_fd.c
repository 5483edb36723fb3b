/* The descriptor is readable exactly while events, or a wake, are pending: level, not edge. So it
 * is with queues that take turns. */
#include "check.h"

#include <poll.h>

static int readable(int fd, int timeout_ms) {
  struct pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, timeout_ms) == 1 && (p.revents & POLLIN);
}

static troupe_queue *beside(troupe_queue *other) {
  troupe_queue *queue = NULL;
  if (other) {
    CHECK_OK(troupe_queue_new_in_turn(other, &queue));
  } else {
    queue = new_queue();
  }
  return queue;
}

static void follows_events(troupe_engine *engine, troupe_queue *other) {
  troupe_queue *queue = beside(other);
  const int fd = troupe_queue_fd(queue);
  CHECK(fd >= 0 && troupe_queue_fd(queue) == fd);
  CHECK(!readable(fd, 0));

  troupe_request *request = new_request("abc");
  submit(engine, request, queue, 1);
  submit(engine, request, queue, 2);
  int terminals = 0;
  while (terminals < 2) {
    CHECK(readable(fd, 30000));
    CHECK(readable(fd, 0)); /* still: polling does not consume it */
    troupe_events *events = NULL;
    CHECK_OK(troupe_queue_wait(queue, 0, 1, &events));
    if (events) terminals += TROUPE_IS_TERMINAL(TROUPE_EVENT(events, 0)->kind);
    troupe_events_free(events);
  }
  CHECK(!readable(fd, 20));

  /* A wake makes it readable until the next wait, which finds nothing. */
  troupe_queue_wake(queue);
  CHECK(readable(fd, 0) && readable(fd, 0));
  troupe_events *events = NULL;
  CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
  CHECK(!events && !readable(fd, 0));

  /* Asked for while events are pending, it is readable from the start. */
  troupe_queue *late = beside(other);
  submit(engine, request, late, 3);
  CHECK_OK(troupe_engine_close(engine, -1));
  CHECK(readable(troupe_queue_fd(late), 0));

  /* Timeouts. */
  CHECK_OK(troupe_queue_wait(queue, 1000000, 0, &events));
  CHECK(!events);
  CHECK_OK(troupe_queue_wait(queue, 0, 0, &events));
  CHECK(!events);
  troupe_request_free(request);
  troupe_engine_free(engine);
  troupe_queue_free(late);
  troupe_queue_free(queue);
}

int main(int argc, char **argv) {
  follows_events(open_engine(argc, argv, "echo:"), NULL);
  troupe_queue *other = new_queue();
  follows_events(open_engine(argc, argv, "echo:"), other);
  troupe_queue_free(other);
  return 0;
}
