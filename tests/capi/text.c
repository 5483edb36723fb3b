/* Tokenise, detokenise, render; what the engine says of itself; inspect. */
#include "check.h"

int main(int argc, char **argv) {
  troupe_engine *engine = open_engine(argc, argv, "echo:");
  troupe_bytes *ids = NULL, *text = NULL;
  CHECK_OK(troupe_tokenize(engine, "h\xc3\xa9", 3, 0, &ids));
  CHECK(ids->size == 12 && ((const int32_t *)ids->data)[0] == 'h');
  CHECK_OK(troupe_detokenize(engine, ids->data, ids->size / 4, 0, &text));
  CHECK(text->size == 3 && memcmp(text->data, "h\xc3\xa9", 4) == 0); /* with its NUL */
  troupe_bytes_free(text);
  troupe_bytes_free(ids);
  CHECK_OK(troupe_tokenize(engine, "a", 1, TROUPE_TEXT_ADD_SPECIAL, &ids));
  CHECK(ids->size >= 4);
  CHECK_OK(troupe_detokenize(engine, ids->data, ids->size / 4, TROUPE_TEXT_SKIP_SPECIAL, &text));
  CHECK(text->size == 1);
  troupe_bytes_free(text);
  troupe_bytes_free(ids);
  CHECK_FAILS(TROUPE_ERROR_INVALID, "offset 1", troupe_tokenize(engine, "a\xff", 2, 0, &ids));
  CHECK(!ids);
  const int32_t wrong[] = {1 << 20};
  CHECK_FAILS(TROUPE_ERROR_INVALID, "tokens[0] is 1048576: it must be 0 to 256",
              troupe_detokenize(engine, wrong, 1, 0, &text));

  troupe_request *request = NULL;
  CHECK_OK(troupe_request_new(&request));
  CHECK_OK(troupe_request_message(request, TROUPE_ROLE_SYSTEM));
  CHECK_OK(troupe_request_text(request, "be brief", 8));
  CHECK_OK(troupe_request_message(request, TROUPE_ROLE_USER));
  CHECK_OK(troupe_request_text(request, "hello", 5));
  CHECK_OK(troupe_render(engine, request, &text));
  CHECK(strstr(text->data, "be brief") && strstr(text->data, "hello"));
  troupe_bytes_free(text);
  troupe_queue *queue = new_queue();
  submit(engine, request, queue, 0);
  CHECK(strcmp(collect(queue)->text, "hello") == 0); /* the last message */

  troupe_info info;
  info.struct_size = sizeof info;
  CHECK_OK(troupe_engine_info(engine, &info));
  CHECK(info.struct_size == sizeof info && info.vocab_size == 257 && info.context_length > 0);
  CHECK(strcmp(info.model, "echo") == 0 && strcmp(info.endpoint, "echo:") == 0);
  CHECK(info.chat_template_origin[0] && (info.capabilities & TROUPE_CAN_CHAT));
  troupe_bytes *metrics = NULL;
  CHECK_OK(troupe_engine_metrics(engine, &metrics));
  CHECK(strstr(metrics->data, "troupe_"));
  troupe_bytes_free(metrics);
  CHECK_FAILS(TROUPE_ERROR_UNSUPPORTED, "no_such",
              troupe_engine_set_option(engine, "no_such", "1"));
  troupe_request_free(request);
  troupe_queue_free(queue);
  troupe_engine_free(engine);
  return 0;
}
