// Chat templates against transformers' apply_chat_template (tests/golden/text.py), and where a
// template comes from.
#include "text/chat_template.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "text/test_folder.hpp"
#include "text/tokenizer.hpp"

namespace troupe::text {
namespace {

using json = nlohmann::ordered_json;

const std::string kFolder = kGolden + "/tokenizers/llama3";

const Tokenizer& tokenizer() {
  static const auto held = Tokenizer::load(kFolder);
  return *held.value();
}

std::string dumped(const json& object, const char* key) {
  return object.contains(key) ? object[key].dump() : std::string();
}

Result<std::string> render(const std::string& file, const json& messages, const json& options,
                           int64_t now) {
  TR_ASSIGN(const auto chat, ChatTemplate::load(kFolder, tokenizer(), file));
  const std::string text = messages.dump(), tools = dumped(options, "tools"),
                    documents = dumped(options, "documents"), kwargs = dumped(options, "kwargs");
  const std::string field = options.value("continue_final_message", "");
  return chat->render({.messages_json = text,
                       .tools_json = tools,
                       .documents_json = documents,
                       .kwargs_json = kwargs,
                       .add_generation_prompt = options.value("add_generation_prompt", false),
                       .continue_field = field,
                       .now_s = now});
}

// The reference either renders a text, or a template raises with a message, or Python does.
void expect_same(const Result<std::string>& got, const json& wanted, const std::string& what) {
  if (wanted.contains("text")) {
    ASSERT_TRUE(got.ok()) << what << "\n" << got.status().message();
    EXPECT_EQ(*got, wanted["text"].get<std::string>()) << what;
    return;
  }
  const std::string error = wanted["error"];
  ASSERT_FALSE(got.ok()) << what << "\nexpected " << error << ", got " << *got;
  if (error.find(' ') != std::string::npos && error.find("wants") != std::string::npos) {
    EXPECT_NE(got.status().message().find(error), std::string::npos) << got.status().message();
  }
}

class TemplateGolden : public testing::Test {
 protected:
  void SetUp() override {
    setenv("TZ", "UTC", 1);
    tzset();
    golden_ = json::parse(slurp(kGolden + "/templates.json"));
  }
  json golden_;
};

TEST_F(TemplateGolden, WholeTemplates) {
  int rendered = 0;
  for (const auto& [file, rows] : golden_["files"].items()) {
    for (size_t at = 0; at < rows.size(); ++at) {
      const json& row = rows[at];
      expect_same(render(file, row["messages"], row["options"], golden_["now"]), row,
                  file + " case " + std::to_string(at));
      ++rendered;
    }
  }
  EXPECT_GT(rendered, 200);
}

TEST_F(TemplateGolden, Expressions) {
  const json options = {{"kwargs", {{"v", golden_["values"]}}}};
  const json messages = json::array({{{"role", "user"}, {"content", "hi there"}}});
  TestFolder folder;
  for (const json& row : golden_["expressions"]) {
    const std::string source = row["source"];
    folder.write("t.jinja", source);
    expect_same(render(folder.path() + "/t.jinja", messages, options, golden_["now"]), row, source);
  }
}

Result<std::unique_ptr<ChatTemplate>> load(const TestFolder& folder, std::string_view name = {}) {
  const auto own = Tokenizer::load(folder.path());
  return ChatTemplate::load(folder.path(), *own.value(), name);
}

TEST(ChatTemplate, ComesFromTheFolderInTheReferencesOrder) {
  TestFolder folder;
  folder.copy(kGolden + "/tokenizers/gpt2");
  folder.write("chat_template.json", R"({"chat_template": "from json"})");
  EXPECT_EQ(load(folder).value()->origin(), folder.path() + "/chat_template.json");
  folder.write("tokenizer_config.json", R"({"chat_template": "from config"})");
  EXPECT_EQ(load(folder).value()->origin(), folder.path() + "/tokenizer_config.json");
  EXPECT_EQ(load(folder).value()->source(), "from config");
  folder.write("chat_template.jinja", "from file");
  EXPECT_EQ(load(folder).value()->source(), "from file");
  EXPECT_EQ(load(folder).value()->render({.messages_json = R"([{"role":"user","content":"x"}])"}).value(),
            "from file");
}

TEST(ChatTemplate, ChoosesAmongNamedTemplates) {
  TestFolder folder;
  folder.copy(kGolden + "/tokenizers/gpt2");
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "plain"},
                                     {"name": "tool_use", "template": "tools"},
                                     {"name": "rag", "template": "rag"}]})");
  const std::string_view messages = R"([{"role":"user","content":"x"}])";
  const auto chat = load(folder).value()->render({.messages_json = messages});
  EXPECT_EQ(*chat, "plain");
  EXPECT_EQ(*load(folder).value()->render({.messages_json = messages, .tools_json = "[]"}), "tools");
  EXPECT_EQ(*load(folder, "rag").value()->render({.messages_json = messages}), "rag");
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "a", "template": "1"}, {"name": "b", "template": "2"}]})");
  const auto none = load(folder).value()->render({.messages_json = messages});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("a, b"), std::string::npos);
}

TEST(ChatTemplate, IsRefusedToABaseModel) {
  TestFolder folder;
  folder.copy(kGolden + "/tokenizers/llama3").write("config.json", R"({"model_type": "llama"})");
  const auto chat = load(folder);
  ASSERT_FALSE(chat.ok());
  EXPECT_EQ(chat.status().code(), Code::unsupported);
  EXPECT_NE(chat.status().message().find("--chat-template"), std::string::npos);
  EXPECT_NE(chat.status().message().find("llama3"), std::string::npos);
}

TEST(ChatTemplate, OfTheFamilyIsGivenToAChatModelWithoutOne) {
  const struct {
    const char* model_type;
    const char* name;
    const char* wanted;
  } cases[] = {
      {"llama", "meta/Llama-3-8B-Instruct", "llama3"}, {"llama", "meta/Llama-2-7b-chat-hf", "llama2"},
      {"llama", "lmsys/vicuna-7b-v1.5", "vicuna"},     {"mistral", "HuggingFaceH4/zephyr-7b", "zephyr"},
      {"mixtral", "mistralai/Mixtral-8x7B-Instruct", "mixtral"}, {"llama", "meta/Llama-3-8B", ""},
      {"mistral", "mistralai/Mistral-7B", ""},
  };
  for (const auto& entry : cases) {
    TestFolder folder;
    folder.copy(kGolden + "/tokenizers/llama3");
    folder.write("config.json", std::string(R"({"model_type": ")") + entry.model_type +
                                    R"(", "_name_or_path": ")" + entry.name + "\"}");
    const auto chat = load(folder);
    ASSERT_EQ(chat.ok(), *entry.wanted != '\0') << entry.name;
    if (chat.ok()) {
      EXPECT_EQ(chat.value()->origin().rfind(std::string("built-in ") + entry.wanted, 0), 0U)
          << chat.value()->origin();
    }
  }
}

TEST(ChatTemplate, NamesWhatItDoesNotFind) {
  const auto chat = ChatTemplate::load(kFolder, tokenizer(), "no-such-template");
  ASSERT_FALSE(chat.ok());
  EXPECT_EQ(chat.status().code(), Code::not_found);
  EXPECT_NE(chat.status().message().find("chatml"), std::string::npos);
}

TEST(ChatTemplate, NamesTheLineThatDoesNotParse) {
  TestFolder folder;
  folder.write("t.jinja", "line one\n{% if %}\n");
  const auto chat = ChatTemplate::load(kFolder, tokenizer(), folder.path() + "/t.jinja");
  ASSERT_FALSE(chat.ok());
  EXPECT_EQ(chat.status().code(), Code::unsupported);
  EXPECT_NE(chat.status().message().find("line 2"), std::string::npos) << chat.status().message();
}

TEST(ChatTemplate, RefusesBadInputByName) {
  const auto chat = ChatTemplate::load(kFolder, tokenizer(), "chatml").value();
  const std::pair<ChatRequest, const char*> cases[] = {
      {{.messages_json = ""}, "messages"},
      {{.messages_json = "[]"}, "messages"},
      {{.messages_json = "{}"}, "messages"},
      {{.messages_json = "[1]"}, "messages[0]"},
      {{.messages_json = "[{\"role\":"}, "messages"},
      {{.messages_json = "[{\"role\":\"\xFF\"}]"}, "messages"},
      {{.messages_json = "[{}]", .tools_json = "{}"}, "tools"},
      {{.messages_json = "[{}]", .documents_json = "[1]"}, "documents[0]"},
      {{.messages_json = "[{}]", .kwargs_json = "[]"}, "kwargs"},
      {{.messages_json = "[{}]", .continue_field = "content"}, "add_generation_prompt"},
      {{.messages_json = "[{}]", .add_generation_prompt = false, .continue_field = "content"}, "content"},
  };
  for (const auto& [request, wanted] : cases) {
    const auto text = chat->render(request);
    ASSERT_FALSE(text.ok()) << request.messages_json;
    EXPECT_EQ(text.status().code(), Code::invalid);
    EXPECT_NE(text.status().message().find(wanted), std::string::npos) << text.status().message();
  }
}

TEST(ChatTemplate, EndsAnEndlessTemplate) {
  TestFolder folder;
  folder.write("t.jinja",
               "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
               "{% endfor %}{% endfor %}{% endfor %}");
  const auto chat = ChatTemplate::load(kFolder, tokenizer(), folder.path() + "/t.jinja").value();
  EXPECT_FALSE(chat->render({.messages_json = R"([{"role":"user","content":"x"}])"}).ok());
}

}  // namespace
}  // namespace troupe::text
