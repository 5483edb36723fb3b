/* A question about an image.   image [ENDPOINT] FILE */
#include <stdio.h>
#include <stdlib.h>

#include <troupe.h>

static void check(troupe_error *error) {
  if (!error) return;
  fprintf(stderr, "%s: %s\n", troupe_error_name(troupe_error_code(error)),
          troupe_error_message(error));
  exit(1);
}

int main(int argc, char **argv) {
  static unsigned char bytes[16 << 20];
  FILE *file = argc > 1 ? fopen(argv[argc - 1], "rb") : NULL;
  if (!file) {
    fprintf(stderr, "usage: %s [ENDPOINT] FILE: a JPEG, PNG or WebP\n", argv[0]);
    return 2;
  }
  troupe_image image;
  troupe_image_init(&image, sizeof image);
  image.data = bytes;
  image.size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);

  troupe_engine *engine;
  troupe_queue *queue;
  troupe_request *request;
  check(troupe_engine_open(argc > 2 ? argv[1] : "echo:", NULL, &engine));
  check(troupe_queue_new(&queue));
  check(troupe_request_new(&request));
  check(troupe_request_message(request, TROUPE_ROLE_USER));
  check(troupe_request_image(request, &image));
  check(troupe_request_text(request, " What is this?", 14));
  check(troupe_submit(engine, request, queue, 0, NULL));
  for (int32_t kind = -1; !TROUPE_IS_TERMINAL(kind);) {
    troupe_events *events;
    check(troupe_queue_wait(queue, -1, 0, &events));
    for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
      const troupe_event *event = TROUPE_EVENT(events, i);
      fwrite(event->text, 1, event->text_size, stdout);
      if (event->error) fprintf(stderr, "%s\n", troupe_error_message(event->error));
      kind = event->kind;
    }
    troupe_events_free(events);
  }
  putchar('\n');

  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
