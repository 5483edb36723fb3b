/* Images of the three kinds, copied or lent; `echo:` answers with their size and hash. */
#include "check.h"

static int released = 0;
static void on_release(void *user) {
  CHECK(user == &released);
  ++released;
}

static const answer *ask_image(troupe_engine *engine, const troupe_image *image) {
  troupe_request *request = new_request("see: ");
  CHECK_OK(troupe_request_image(request, image));
  const answer *a = answer_to(request, engine);
  CHECK(a->kind == TROUPE_EVENT_DONE);
  return a;
}

/* A PNG of 3 x 2 black pixels. */
static const unsigned char kPng[] = {
    0x89, 'P',  'N',  'G',  0x0d, 0x0a, 0x1a, 0x0a, 0,    0,    0,    13,   'I',  'H',
    'D',  'R',  0,    0,    0,    3,    0,    0,    0,    2,    8,    2,    0,    0,
    0,    0x12, 0x16, 0xf1, 0x4d, 0,    0,    0,    12,   'I',  'D',  'A',  'T',  0x78,
    0x9c, 0x63, 0x60, 0x40, 0x07, 0x00, 0x00, 0x14, 0x00, 0x01, 0xc9, 0xd1, 0x8b, 0x0d,
    0,    0,    0,    0,    'I',  'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};

static void kinds(troupe_engine *engine) {
  troupe_image image;
  troupe_image_init(&image, sizeof image);
  image.data = kPng;
  image.size = sizeof kPng;
  CHECK(strstr(ask_image(engine, &image)->text, "see: [image 3x2 png "));

  unsigned char pixels[4 * 5 * 3];
  for (size_t i = 0; i < sizeof pixels; ++i) pixels[i] = (unsigned char)i;
  troupe_image_init(&image, sizeof image);
  image.kind = TROUPE_IMAGE_PIXELS;
  image.data = pixels;
  image.size = sizeof pixels;
  image.width = 4;
  image.height = 5;
  CHECK(strstr(ask_image(engine, &image)->text, "see: [image 4x5 rgb "));

  const float rows[6] = {0, 1, 2, 3, 4, 5};
  troupe_image_init(&image, sizeof image);
  image.kind = TROUPE_IMAGE_EMBEDDING;
  image.type = TROUPE_TYPE_F32;
  image.data = rows;
  image.size = sizeof rows;
  image.rows = 2;
  image.hidden = 3;
  CHECK(strstr(ask_image(engine, &image)->text, "see: [embedding 2x3 f32 "));
}

static void lent(troupe_engine *engine) {
  static unsigned char pixels[2 * 2 * 4];
  troupe_image image;
  troupe_image_init(&image, sizeof image);
  image.kind = TROUPE_IMAGE_PIXELS;
  image.format = TROUPE_PIXELS_RGBA;
  image.data = pixels;
  image.size = sizeof pixels;
  image.width = image.height = 2;
  image.release = on_release;
  image.release_user = &released;
  ask_image(engine, &image);
  CHECK_OK(troupe_engine_close(engine, -1)); /* now nobody holds it any more */
  CHECK(released == 1);
  troupe_request *request = new_request(NULL);
  image.width = 3; /* too little data: refused, and not released */
  CHECK_FAILS(TROUPE_ERROR_INVALID, "troupe_image.size", troupe_request_image(request, &image));
  CHECK(released == 1);
  image.width = 2;
  CHECK_OK(troupe_request_image(request, &image));
  troupe_request_free(request);
  CHECK(released == 2);
}

static void refusals(void) {
  troupe_request *request = new_request(NULL);
  unsigned char pixels[12] = {0};
  troupe_image image;
  troupe_image_init(&image, sizeof image);
  CHECK_FAILS(TROUPE_ERROR_INVALID, "no data", troupe_request_image(request, &image));
  image.data = pixels;
  image.size = sizeof pixels;
  image.kind = 9;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "kind is 9", troupe_request_image(request, &image));
  image.kind = TROUPE_IMAGE_PIXELS;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "width is -1", troupe_request_image(request, &image));
  image.width = image.height = 1 << 20;
  CHECK_FAILS(TROUPE_ERROR_LIMIT, "pixels", troupe_request_image(request, &image));
  image.width = image.height = 2;
  image.row_stride = 5;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "row_stride is 5", troupe_request_image(request, &image));
  image.kind = TROUPE_IMAGE_EMBEDDING;
  image.rows = 2;
  image.hidden = 3;
  image.grid[0] = image.grid[1] = 1;
  image.grid[2] = 3;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "troupe_image.grid", troupe_request_image(request, &image));
  troupe_request_free(request);
}

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  kinds(engine);
  refusals();
  lent(engine);
  troupe_engine_free(engine);
  return 0;
}
