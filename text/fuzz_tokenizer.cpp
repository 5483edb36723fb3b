// Fuzz targets: any bytes as one of the tokenizer's files (TROUPE_FUZZED_FILE, one program each). What
// loads must encode and decode without harm; what does not must say which file is to blame.
#include <cstddef>
#include <cstdint>

#include "base/assert.hpp"
#include "text/chat_template.hpp"
#include "text/detokenizer.hpp"
#include "text/test_folder.hpp"
#include "text/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using troupe::text::Tokenizer;

constexpr std::string_view kTexts[] = {"", " hello <s>wörld</s> 日本 😀\n\t12", "<|im_start|>user\n<0x41>"};

void use(const Tokenizer& tokenizer) {
  for (const std::string_view text : kTexts) {
    for (const bool parse_special : {true, false}) {
      const auto ids = tokenizer.encode(text, true, parse_special);
      if (!ids.ok()) continue;
      const auto whole = tokenizer.decode(*ids, true);
      TR_ASSERT(whole.ok() || !whole.status().message().empty());
      troupe::text::Detokenizer detokenizer(tokenizer);
      std::string text_out;
      for (const int32_t id : *ids) detokenizer.push(id, text_out);
      detokenizer.rewind(detokenizer.tokens() / 2);
      detokenizer.finish(text_out);
    }
  }
  for (int32_t id = -1; id < std::min(tokenizer.vocab_size() + 1, 2000); ++id) {
    TR_ASSERT(tokenizer.token_bytes(id).size() <= size_t{1} << 20);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static troupe::text::TestFolder folder;
  static const bool prepared = [] {
    if (std::string_view(TROUPE_FUZZED_FILE) == "tokenizer_config.json") {
      folder.copy(troupe::text::kGolden + "/tokenizers/" TROUPE_FUZZED_WITH);
    }
    return true;
  }();
  static_cast<void>(prepared);
  folder.write(TROUPE_FUZZED_FILE, std::string(reinterpret_cast<const char*>(data), size));
  const auto tokenizer = Tokenizer::load(folder.path());
  if (!tokenizer.ok()) {
    TR_ASSERT(tokenizer.status().message().find(folder.path()) != std::string::npos);
    return 0;
  }
  use(**tokenizer);
  const auto chat = troupe::text::ChatTemplate::load(folder.path(), **tokenizer);
  if (chat.ok()) {
    const auto text = (*chat)->render({.messages_json = R"([{"role":"user","content":"hi"}])"});
    TR_ASSERT(text.ok() || !text.status().message().empty());
  }
  return 0;
}
