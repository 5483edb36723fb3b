/* Programs older and newer than the library: shorter structs, longer structs, unset sizes. */
#include "check.h"

#include <stddef.h>

typedef struct newer_sampling {
  troupe_sampling known;
  float invented;
  int32_t also_invented;
} newer_sampling;

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_request *request = new_request("0123456789");
  troupe_queue *queue = new_queue();

  /* Older: everything after max_tokens does not exist. It is as if not given. */
  troupe_sampling sampling;
  memset(&sampling, 0x5a, sizeof sampling);
  const uint32_t older = offsetof(troupe_sampling, min_tokens);
  troupe_sampling_init(&sampling, older);
  CHECK(sampling.struct_size == older && sampling.max_tokens == -1);
  CHECK(sampling.min_tokens == 0x5a5a5a5a); /* not ours to write */
  sampling.max_tokens = 3;
  CHECK_OK(troupe_request_sampling(request, &sampling));
  submit(engine, request, queue, 0);
  CHECK(strcmp(collect(queue)->text, "012") == 0);

  /* Newer: fine while the fields that we do not know are left alone. */
  newer_sampling newer;
  troupe_sampling_init(&newer.known, sizeof newer);
  newer.known.max_tokens = 5;
  CHECK_OK(troupe_request_sampling(request, &newer.known));
  submit(engine, request, queue, 0);
  CHECK(strcmp(collect(queue)->text, "01234") == 0);
  newer.invented = 0.0f;
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "troupe_sampling has a field at offset",
              troupe_request_sampling(request, &newer.known));

  sampling.struct_size = 0;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "troupe_sampling_init",
              troupe_request_sampling(request, &sampling));
  sampling.struct_size = 1u << 30;
  CHECK_FAILS(TROUPE_ERROR_INVALID, "struct_size", troupe_request_sampling(request, &sampling));

  /* What the library fills: as much as there is, zeros beyond. */
  struct {
    troupe_stats known;
    uint64_t invented;
  } stats;
  memset(&stats, 0x5a, sizeof stats);
  stats.known.struct_size = sizeof stats;
  CHECK_OK(troupe_engine_stats(engine, &stats.known));
  CHECK(stats.known.done == 2 && stats.invented == 0 && stats.known.struct_size == sizeof stats);
  memset(&stats, 0x5a, sizeof stats);
  stats.known.struct_size = offsetof(troupe_stats, refused);
  CHECK_OK(troupe_engine_stats(engine, &stats.known));
  CHECK(stats.known.submitted >= 2 && stats.known.refused == 0x5a5a5a5a5a5a5a5a);
  troupe_info info;
  info.struct_size = 3;
  CHECK_FAILS(TROUPE_ERROR_INVALID,
              "troupe_info.struct_size is 3: set it to sizeof(troupe_info) before the call",
              troupe_engine_info(engine, &info));

  CHECK(troupe_version() ==
        (TROUPE_VERSION_MAJOR << 16 | TROUPE_VERSION_MINOR << 8 | TROUPE_VERSION_PATCH));
  CHECK(strncmp(troupe_version_string(), "0.1.0 (", 7) == 0);
  CHECK(troupe_sizeof("troupe_event") == sizeof(troupe_event));
  CHECK(troupe_sizeof("troupe_sampling") == sizeof(troupe_sampling));
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
