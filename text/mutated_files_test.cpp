// Every field of a tokenizer's files, turned into what it must not be: loading names file and field, or
// the tokenizer loads and encodes. Vocabularies cut short at any length.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>

#include "text/chat_template.hpp"
#include "text/mutations.hpp"
#include "text/test_folder.hpp"
#include "text/tokenizer.hpp"

namespace troupe::text {
namespace {

using json = nlohmann::ordered_json;
using Path = json::json_pointer;

long peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

// What went wrong with the folder, or "" when text goes there and back and a chat renders or is refused.
std::string problem(const TestFolder& folder) {
  const auto tokenizer = Tokenizer::load(folder.path());
  if (!tokenizer.ok()) return tokenizer.status().message();
  const auto ids = (*tokenizer)->encode("Hello world, 42", true, true);
  if (ids.ok()) {
    EXPECT_TRUE((*tokenizer)->decode(*ids, true).ok());
  } else if (ids.status().code() == Code::internal) {
    return ids.status().message();
  }
  const auto chat = ChatTemplate::load(folder.path(), **tokenizer);
  if (!chat.ok() && chat.status().code() == Code::unsupported) return "";
  return chat.status().message();
}

class MutatedFiles : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(MutatedFiles, AreRefusedByFieldOrWork) {
  const auto [golden, file] = GetParam();
  TestFolder folder;
  folder.copy(kGolden + "/tokenizers/" + golden);
  const json whole = json::parse(slurp(folder.path() + "/" + file));
  std::vector<Path> fields;
  collect_fields(whole, Path(), fields);
  const long before_mib = peak_mib();
  int refused = 0;
  for (const Path& at : fields) {
    for (const json& value : wrong_values()) {
      if (value == whole[at]) continue;
      json mutated = whole;
      mutated[at] = value;
      folder.write(file, mutated.dump());
      const std::string message = problem(folder);
      if (message.empty()) continue;
      ++refused;
      const std::string what = at.to_string() + " = " + value.dump() + "\n" + message;
      EXPECT_EQ(message.rfind(folder.path() + "/", 0), 0U) << what;
      EXPECT_EQ(message.find("panick"), std::string::npos) << what;
      EXPECT_EQ(message.find("json.exception"), std::string::npos) << what;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(peak_mib() - before_mib, 512);
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, MutatedFiles,
    testing::Values(std::pair("gpt2", "tokenizer_config.json"), std::pair("llama3", "tokenizer_config.json"),
                    std::pair("spm_eos", "tokenizer_config.json"), std::pair("qwen", "tokenizer_config.json"),
                    std::pair("glm4", "tokenizer_config.json"), std::pair("gpt2", "tokenizer.json"),
                    std::pair("llama_json", "tokenizer.json"), std::pair("unigram_json", "tokenizer.json"),
                    std::pair("wordpiece_json", "tokenizer.json"), std::pair("spm_eos", "config.json")),
    [](const auto& golden) {
      std::string name = std::string(golden.param.first) + "_" + golden.param.second;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

TEST(MutatedTokenizerConfig, NamesWhatIsOfAnotherType) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"bos_token": 7})", "bos_token must be text or a token object, is 7"},
      {R"({"eos_token": ["</s>"]})", "eos_token must be text or a token object, is a list of 1"},
      {R"({"pad_token": false})", "pad_token must be text or a token object, is false"},
      {R"({"unk_token": {"content": 3}})", "unk_token.content must be text, is 3"},
      {R"({"unk_token": {"content": "x", "lstrip": "no"}})", "unk_token.lstrip must be true or false, is \"no\""},
      {R"({"add_bos_token": "true"})", "add_bos_token must be true or false, is \"true\""},
      {R"({"add_eos_token": 1})", "add_eos_token must be true or false, is 1"},
      {R"({"legacy": 0})", "legacy must be true or false, is 0"},
      {R"({"tokenizer_class": []})", "tokenizer_class must be text, is a list of 0"},
      {R"({"additional_special_tokens": "x"})", "additional_special_tokens must be a list or an object of tokens"},
      {R"({"additional_special_tokens": [null, 4]})", "additional_special_tokens[1] must be text or a token object"},
      {R"({"added_tokens_decoder": []})", "added_tokens_decoder must be an object of token objects"},
      {R"({"added_tokens_decoder": {"1": 5}})", "added_tokens_decoder.1 must be text or a token object, is 5"},
      {R"({"chat_template": [{"name": "a", "template": 1}]})", "chat_template[0].template must be text, is 1"},
      {R"({"chat_template": {"a": []}})", "chat_template.a must be text, is a list of 0"},
  };
  TestFolder folder;
  folder.copy(kGolden + "/tokenizers/gpt2");
  for (const auto& [config, wanted] : cases) {
    folder.write("tokenizer_config.json", config);
    const auto loaded = Tokenizer::load(folder.path());
    ASSERT_FALSE(loaded.ok()) << config;
    const std::string message = loaded.status().message();
    EXPECT_NE(message.find(folder.path() + "/tokenizer_config.json: " + wanted), std::string::npos) << message;
  }
  folder.write("tokenizer_config.json", R"({"bos_token": null, "add_bos_token": null, "add_eot_token": true,
      "tokenizer_class": null, "additional_special_tokens": null, "added_tokens_decoder": null, "x": 7})");
  EXPECT_EQ(problem(folder), "");
}

TEST(MutatedVocabulary, CutShortAtAnyLengthIsRefusedByFile) {
  for (const auto& [golden, file] : {std::pair("spm", "tokenizer.model"), std::pair("qwen", "qwen.tiktoken"),
                                     std::pair("gpt2", "tokenizer.json")}) {
    TestFolder folder;
    folder.copy(kGolden + "/tokenizers/" + golden);
    const std::string whole = slurp(folder.path() + "/" + file);
    int refused = 0;
    for (size_t cut = 0; cut < whole.size(); cut += whole.size() / 40 + 1) {
      folder.write(file, whole.substr(0, cut));
      const auto loaded = Tokenizer::load(folder.path());
      if (loaded.ok()) continue;  // whole lines of ranks, whole pieces: a smaller vocabulary
      ++refused;
      EXPECT_NE(loaded.status().message().find(file), std::string::npos) << loaded.status().message();
    }
    EXPECT_GT(refused, 0) << file;
  }
}

}  // namespace
}  // namespace troupe::text
