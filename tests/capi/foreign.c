/* An engine library of another build is refused, and the message names both builds. */
#include "check.h"

int main(int argc, char **argv) {
  char folder[4096];
  snprintf(folder, sizeof folder, "%s/../foreign", library_dir(argc, argv));
  troupe_engine_options options;
  troupe_engine_options_init(&options, sizeof options);
  options.library_dir = folder;
  troupe_engine *engine = NULL;
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "foreign-build",
              troupe_engine_open("echo:", &options, &engine));
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "libtroupe_engine.so is of another build",
              troupe_engine_open("echo:", &options, &engine));
  CHECK(!engine);
  return 0;
}
