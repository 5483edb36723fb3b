// Every field of a model folder's JSON, turned into what it must not be: opening says which field of
// which file is wrong and what it is, or the model opens and ends a request. It never crashes, hangs or
// takes memory for what a number claims.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "actors/local_port.hpp"
#include "actors/test_sinks.hpp"
#include "text/mutations.hpp"
#include "text/test_folder.hpp"

namespace troupe::actors {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;
using Path = json::json_pointer;

// A copy of a golden folder, gone with the object. Weights are linked, not copied.
class Copy : public text::TestFolder {
 public:
  explicit Copy(const std::string& from) {
    for (const auto& entry : fs::directory_iterator(from)) {
      const fs::path to = fs::path(path()) / entry.path().filename();
      if (entry.path().extension() == ".json") {
        fs::copy_file(entry.path(), to);
      } else {
        fs::create_symlink(fs::absolute(entry.path()), to);
      }
    }
  }
  void write(const std::string& name, const json& value) { TestFolder::write(name, value.dump()); }
};

// The goldens' prompts are token ids; any vocabulary of the right size opens them.
json id_tokenizer(int64_t vocab_size) {
  json vocab = json::object();
  for (int64_t id = 0; id < vocab_size; ++id) vocab["w" + std::to_string(id)] = id;
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
          {"model", {{"type", "WordLevel"}, {"unk_token", "w0"}, {"vocab", std::move(vocab)}}}};
}

json read(const std::string& path) { return json::parse(std::ifstream(path)); }

long peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

// Empty when a request without any wishes ended well; else why not.
std::string answer(EnginePort& port) {
  Request request;
  PromptPart part;
  part.kind = PromptPart::Kind::tokens;
  part.tokens = {3, 4, 5};
  request.prompt.push_back(std::move(part));
  request.sampling.max_tokens = 2;
  auto sink = std::make_shared<Listener>();
  const auto id = port.submit(std::move(request), sink);
  if (!id.ok()) return id.status().message();
  if (!sink->wait_for(1)) return "no end";
  const Heard heard = sink->of(*id);
  const bool short_context = heard.status.message().find("the context holds 1;") != std::string::npos;
  return heard.end == EventKind::done || short_context ? "" : "failed: " + heard.status.message();
}

struct Tally {
  int opened = 0, refused = 0;
};

// Opens, and asks when that went well. The message of a refusal says where the fault is: the file, and
// the field or, where two do not go together, the other one.
void hold(const Copy& folder, const std::string& file, const std::vector<std::string>& fields,
          const std::string& what, Tally& tally) {
  EngineOptions options;
  options.device = "cpu";
  options.kv_bytes = 8 << 20;
  const auto begin = std::chrono::steady_clock::now();
  const auto port = open_local_port(folder.path(), options, {});
  if (port.ok()) {
    ++tally.opened;
    EXPECT_EQ(answer(**port), "") << what;
  } else {
    ++tally.refused;
    const std::string message = port.status().message();
    EXPECT_NE(port.status().code(), Code::internal) << what << "\n" << message;
    const bool names_it = message.find(file + ": ") != std::string::npos &&
                          std::any_of(fields.begin(), fields.end(), [&](const std::string& field) {
                            return message.find(field) != std::string::npos;
                          });
    // A number that is possible but not this model's shows at its weights.
    const bool names_a_weight = message.find(".safetensors") != std::string::npos ||
                                message.find(".bin") != std::string::npos ||
                                message.find("tensor") != std::string::npos;
    EXPECT_TRUE(names_it || names_a_weight) << what << "\n" << message;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20)) << what;
}

void mutate_all(const std::string& golden, const std::string& file, const json& whole) {
  std::vector<Path> fields;
  text::collect_fields(whole, Path(), fields);
  Copy folder(golden);
  folder.write("tokenizer.json", id_tokenizer(read(golden + "/config.json")["vocab_size"]));
  const long before_mib = peak_mib();
  Tally tally;
  std::vector<std::string> names;
  for (const Path& at : fields) {
    if (std::isdigit(static_cast<unsigned char>(at.back()[0])) == 0) names.push_back(at.back());
  }
  for (const Path& at : fields) {
    for (const json& value : text::wrong_values()) {
      if (value == whole[at]) continue;
      json mutated = whole;
      mutated[at] = value;
      folder.write(file, mutated);
      hold(folder, file, names, golden + ": " + file + at.to_string() + " = " + value.dump(), tally);
    }
  }
  EXPECT_LT(peak_mib() - before_mib, 1024) << golden;
  EXPECT_GT(tally.refused, 0) << golden;
  EXPECT_GT(tally.opened, 0) << golden;
  std::printf("%s/%s: %d opened, %d refused\n", golden.c_str(), file.c_str(), tally.opened, tally.refused);
}

class MutatedConfig : public testing::TestWithParam<const char*> {};

TEST_P(MutatedConfig, IsRefusedByFieldOrAnswers) {
  const std::string golden = GetParam();
  mutate_all(golden, "config.json", read(golden + "/config.json"));
}

INSTANTIATE_TEST_SUITE_P(Goldens, MutatedConfig,
                         testing::Values("tests/golden/models/llama31", "tests/golden/models/llama-longrope",
                                         "tests/golden/models/gemma2", "tests/golden/models/bloom",
                                         "tests/golden/models/neox-parallel", "tests/golden/models/mixtral",
                                         "tests/golden/models/deepseek-v2", "tests/golden/models/qwen2-window",
                                         "tests/golden/models/qwen3-moe"),
                         [](const auto& golden) {
                           std::string name = fs::path(golden.param).filename().string();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(MutatedGeneration, IsRefusedByFieldOrAnswers) {
  const json whole = {{"temperature", 0.7}, {"top_p", 0.9}, {"min_p", 0.1}, {"repetition_penalty", 1.1},
                      {"top_k", 20}, {"max_new_tokens", 16}, {"do_sample", true}, {"eos_token_id", {1, 2}},
                      {"bos_token_id", 1}, {"pad_token_id", 0}};
  mutate_all("tests/golden/models/llama3", "generation_config.json", whole);
}

}  // namespace
}  // namespace troupe::actors
