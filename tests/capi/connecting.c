/* An engine that still connects closes at once, whoever does or does not sit at the other end. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

/* A place that takes connections and never says a word. */
static int mute_place(char *endpoint, size_t size) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t bytes = sizeof address;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener, (struct sockaddr *)&address, bytes) == 0 && listen(listener, 8) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&address, &bytes) == 0);
  snprintf(endpoint, size, "tcp://127.0.0.1:%d", ntohs(address.sin_port));
  return listener;
}

static void close_and_free(troupe_engine *engine) {
  CHECK_OK(troupe_engine_close(engine, 0));
  troupe_engine_free(engine);
}

static void ends_at_once(const char *endpoint, void (*end)(troupe_engine *)) {
  troupe_queue *queue = NULL;
  CHECK_OK(troupe_queue_new(&queue));
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  options.queue = queue;
  options.connect_timeout_ns = INT64_C(60000000000);
  troupe_engine *engine = NULL;
  CHECK_OK(troupe_engine_open(endpoint, &options, &engine));
  usleep(200000); /* in the midst of it */
  const time_t begun = time(NULL);
  end(engine);
  CHECK(time(NULL) - begun < 10);
  troupe_events *events = NULL;
  CHECK_OK(troupe_queue_wait(queue, -1, 0, &events));
  const troupe_event *last = TROUPE_EVENT(events, TROUPE_COUNT(events) - 1);
  CHECK(last->kind == TROUPE_EVENT_FAILED);
  CHECK(troupe_error_code(last->error) == TROUPE_ERROR_CLOSED);
  CHECK(strstr(troupe_error_message(last->error), endpoint));
  troupe_events_free(events);
  troupe_queue_free(queue);
}

int main(void) {
  char endpoint[64];
  const int listener = mute_place(endpoint, sizeof endpoint);
  ends_at_once(endpoint, close_and_free);
  ends_at_once(endpoint, troupe_engine_free);
  CHECK(close(listener) == 0); /* from now on nobody listens there */
  ends_at_once(endpoint, close_and_free);
  ends_at_once(endpoint, troupe_engine_free);
  return 0;
}
