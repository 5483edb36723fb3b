// Truncated, corrupt and hostile weight files: each gives an error that names file and tensor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/cpu/cpu_backend.hpp"
#include "models/model.hpp"
#include "models/test_folder.hpp"

namespace troupe::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::Pickle;
using testing::safetensors;
using testing::TestFolder;
using testing::tiny_config;
using testing::zip;

constexpr const char* kSharded = "tests/golden/models/llama3";  // two safetensors shards
constexpr const char* kTorch = "tests/golden/models/llama1";  // pytorch_model.bin
constexpr const char* kSingle = "tests/golden/models/mixtral";

// Opens and loads; the message of the first failure, or "" when all went well.
std::string problem(const TestFolder& folder) {
  auto backend = cpu::open_cpu_backend({});
  const auto opened = ModelFolder::open(folder.path(), {});
  if (!opened.ok()) return opened.status().message();
  return Model::load(*opened, **backend, nullptr, {}).status().message();
}

std::string safetensors_problem(const std::string& bytes) {
  const TestFolder folder;
  folder.write("config.json", tiny_config());
  folder.write("model.safetensors", bytes);
  return problem(folder);
}

std::string torch_problem(const std::string& bytes) {
  const TestFolder folder;
  folder.write("config.json", tiny_config());
  folder.write("pytorch_model.bin", bytes);
  return problem(folder);
}

std::string pickle_problem(const std::string& program) {
  return torch_problem(zip({{.name = "m/data.pkl", .data = program},
                            {.name = "m/data/0", .data = std::string(64, '\0')}}));
}

TEST(Hostile, TheFoldersAreFineBefore) {
  for (const char* from : {kSharded, kTorch, kSingle}) EXPECT_EQ(problem(TestFolder(from)), "");
}

TEST(Hostile, SymbolicLinksAreFollowed) {
  const TestFolder store(kSharded);
  const TestFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(store.path())) {
    std::filesystem::create_symlink(entry.path(),
                                    folder.path() + "/" + entry.path().filename().string());
  }
  EXPECT_EQ(problem(folder), "");
}

TEST(Hostile, MissingWeightsAndShards) {
  const TestFolder none;
  none.write("config.json", tiny_config());
  EXPECT_THAT(problem(none), AllOf(HasSubstr("no weights"), HasSubstr("--load-format dummy")));
  const TestFolder shard(kSharded);
  shard.remove("model-00002-of-00002.safetensors");
  EXPECT_THAT(problem(shard),
              AllOf(HasSubstr("model-00002-of-00002.safetensors: this shard is missing"),
                    HasSubstr("model.safetensors.index.json wants")));
  const TestFolder config(kSharded);
  config.remove("config.json");
  EXPECT_THAT(problem(config), HasSubstr("config.json: cannot be opened"));
}

TEST(Hostile, AnIndexThatLies) {
  const std::string index = "model.safetensors.index.json";
  const TestFolder escape(kSharded);
  escape.replace(index, "model-00001-of-00002.safetensors", "../../etc/passwd");
  EXPECT_THAT(problem(escape),
              AllOf(HasSubstr(index + ": weight_map."),
                    HasSubstr("must name a file of this folder, is \"../../etc/passwd\"")));
  const TestFolder other(kSharded);
  other.replace(index, "\"model.norm.weight\"", "\"model.norm.wait\"");
  EXPECT_THAT(problem(other), AllOf(HasSubstr(".safetensors: tensor model.norm.wait is missing"),
                                    HasSubstr("model.safetensors.index.json says is here")));
  const TestFolder number(kSharded);
  number.write(index, R"({"weight_map": {"a": 1}})");
  EXPECT_THAT(problem(number), HasSubstr(index + ": weight_map.a must be text, is 1"));
  const TestFolder empty(kSharded);
  empty.write(index, R"({"weight_map": {}})");
  EXPECT_THAT(problem(empty), HasSubstr(index + ": weight_map is empty"));
  const TestFolder folder(kSharded);
  std::filesystem::remove(folder.path() + "/model-00001-of-00002.safetensors");
  std::filesystem::create_directory(folder.path() + "/model-00001-of-00002.safetensors");
  EXPECT_THAT(problem(folder), HasSubstr("model-00001-of-00002.safetensors: is not a plain file"));
}

TEST(Hostile, TruncatedAtAnyLength) {
  const TestFolder whole(kSingle);
  const size_t size = whole.read("model.safetensors").size();
  for (size_t cut = 0; cut < size; cut += size / 23 + 1) {
    const TestFolder folder(kSingle);
    folder.truncate("model.safetensors", cut);
    EXPECT_THAT(problem(folder), HasSubstr("model.safetensors: ")) << cut;
  }
  const TestFolder folder(kSingle);
  folder.truncate("model.safetensors", size - 1);
  EXPECT_THAT(problem(folder),
              AllOf(HasSubstr("data_offsets end at byte"), HasSubstr("truncated")));
}

TEST(Hostile, SafetensorsHeadersThatLie) {
  const auto header = [](const std::string& entry) {
    return safetensors_problem(safetensors("{\"w\": " + entry + "}", 64));
  };
  EXPECT_THAT(header(R"({"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 60]})"),
              HasSubstr("model.safetensors: w.data_offsets span 60 bytes, F32 [4, 4] takes 64"));
  EXPECT_THAT(header(R"({"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80]})"),
              HasSubstr("w.data_offsets end at byte 80, the file has 64"));
  EXPECT_THAT(
      header(R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 64]})"),
      HasSubstr("w.shape [4294967296, 4294967296] overflows"));
  EXPECT_THAT(header(R"({"dtype": "F32", "shape": [-1], "data_offsets": [0, 64]})"),
              HasSubstr("w.shape must hold whole numbers from 0"));
  EXPECT_THAT(header(R"({"dtype": "F32", "shape": [4], "data_offsets": [64, 48]})"),
              HasSubstr("w.data_offsets end before they begin"));
  EXPECT_THAT(header(R"({"dtype": "F32", "shape": [4], "data_offsets": [0]})"),
              HasSubstr("w.data_offsets must be two numbers"));
  EXPECT_THAT(header(R"({"dtype": "Q9", "shape": [4], "data_offsets": [0, 16]})"),
              HasSubstr("w.dtype is \"Q9\""));
  EXPECT_THAT(header(R"({"dtype": "F32", "data_offsets": [0, 4]})"),
              HasSubstr("w.shape is missing"));
  EXPECT_THAT(header(R"({"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]})"),
              HasSubstr("w.shape has 9 dimensions, at most 8"));
  EXPECT_THAT(header("7"), HasSubstr("model.safetensors: w must be an object, is 7"));
  EXPECT_THAT(safetensors_problem(safetensors(
                  R"({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                      "b": {"dtype": "F32", "shape": [4], "data_offsets": [12, 28]}})",
                  64)),
              HasSubstr("model.safetensors: tensors a and b overlap"));
  EXPECT_THAT(safetensors_problem("\xff\xff\xff\xff\xff\xff\xff\xff{}"),
              HasSubstr("are read; is this a safetensors file?"));
  EXPECT_THAT(safetensors_problem(std::string("\xff\0\0\0\0\0\0\0{}", 10)),
              HasSubstr("header of 255 bytes in a file of 10"));
  EXPECT_THAT(safetensors_problem("abc"), HasSubstr("too short for safetensors"));
}

TEST(Hostile, TensorsThatDoNotFitTheConfig) {
  const TestFolder wide(kSingle);
  wide.replace("config.json", "\"vocab_size\": ", "\"vocab_size\": 1");
  EXPECT_THAT(problem(wide),
              AllOf(HasSubstr("model.safetensors: tensor model.embed_tokens.weight: shape ["),
                    HasSubstr("config.json wants [1")));
  const TestFolder lost(kSingle);
  lost.replace("model.safetensors", "model.norm.weight", "model.worm.weight");
  EXPECT_THAT(problem(lost), HasSubstr("tensor model.norm.weight is missing"));
  EXPECT_THAT(
      safetensors_problem(safetensors(
          R"({"model.norm.weight": {"dtype": "F64", "shape": [16], "data_offsets": [0, 128]},
                      "x": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})",
          128)),
      HasSubstr("model.safetensors: tensor model.norm.weight: dtype F64; weights are read as"));
}

TEST(Hostile, APickleThatWantsToRunCode) {
  EXPECT_THAT(
      pickle_problem(
          Pickle().global("os", "system").text("touch /tmp/owned").op('\x85').op('R').stop()),
      AllOf(HasSubstr("pytorch_model.bin: pickle wants to use os.system, which is refused"),
            HasSubstr("no code is run")));
  EXPECT_THAT(pickle_problem(Pickle().text("builtins").text("eval").op('\x93').stop()),
              HasSubstr("wants to use builtins.eval"));
  EXPECT_THAT(pickle_problem(Pickle().global("torch._utils", "_rebuild_tensor_v2 ").stop()),
              HasSubstr("refused"));
  EXPECT_THAT(pickle_problem(Pickle().op('(').raw("ios\nsystem\n").stop()),
              HasSubstr("opcode 0x69 is not one that torch.save writes"));
  EXPECT_THAT(pickle_problem(Pickle().global("torch", "FloatStorage").op(')').op('R').stop()),
              HasSubstr("call of torch FloatStorage"));
}

TEST(Hostile, PicklesThatLie) {
  const auto state = [](auto fill) {
    Pickle p;
    p.op('}').op('(').text("w");
    fill(p);
    return pickle_problem(p.op('u').stop());
  };
  EXPECT_THAT(
      state([](Pickle& p) {
        p.tensor("0", "FloatStorage", 16, 0, {4, 5}, {5, 1});
      }),
      HasSubstr(
          "pytorch_model.bin: tensor w: shape [4, 5] from element 0 on is beyond its storage"));
  EXPECT_THAT(state([](Pickle& p) { p.tensor("0", "FloatStorage", 16, 13, {4}, {1}); }),
              HasSubstr("from element 13 on is beyond its storage"));
  EXPECT_THAT(state([](Pickle& p) { p.tensor("0", "FloatStorage", 1000, 0, {4}, {1}); }),
              HasSubstr("its storage m/data/0 has 64 bytes, 1000 elements are more"));
  EXPECT_THAT(state([](Pickle& p) { p.tensor("7", "FloatStorage", 16, 0, {4}, {1}); }),
              HasSubstr("its storage m/data/7 is missing"));
  EXPECT_THAT(state([](Pickle& p) {
                p.tensor("0", "FloatStorage", 16, 0, {4, 4}, {1, 4});
              }),
              HasSubstr("tensor w: is stored transposed or strided"));
  EXPECT_THAT(state([](Pickle& p) {
                p.tensor("0", "FloatStorage", 16, 0, {2147483647, 2147483647, 9}, {1, 1, 1});
              }),
              HasSubstr("beyond its storage"));
  EXPECT_THAT(state([](Pickle& p) { p.tensor("0", "FloatStorage", -4, 0, {4}, {1}); }),
              HasSubstr("tensor w: "));
  EXPECT_THAT(state([](Pickle& p) { p.tensor("0", "FloatStorage", 16, -1, {4}, {1}); }),
              HasSubstr("has no proper offset"));
  EXPECT_THAT(pickle_problem(Pickle().op(']').stop()), HasSubstr("holds no dictionary of tensors"));
  EXPECT_THAT(pickle_problem(Pickle().op('}').stop()), HasSubstr("holds no tensors"));
  EXPECT_THAT(pickle_problem(Pickle().op('}').cut()), HasSubstr("ends without its stop mark"));
  EXPECT_THAT(pickle_problem(Pickle().op('u').stop()), HasSubstr("no mark on the stack"));
  EXPECT_THAT(pickle_problem(Pickle().raw("h\x05").stop()), HasSubstr("memo 5 was never set"));
  EXPECT_THAT(pickle_problem(Pickle().op('(').raw("X\xff\xff\xff\xff").stop()),
              HasSubstr("text cut off"));
}

// A million nested tuples must neither overflow the stack nor the memory.
TEST(Hostile, DeepPickles) {
  Pickle p;
  p.op(')');
  for (int i = 0; i < 1000000; ++i) p.op('\x85');
  EXPECT_THAT(pickle_problem(p.stop()), HasSubstr("holds no dictionary of tensors"));
}

TEST(Hostile, OddZipArchives) {
  const std::string program = Pickle().op('}').stop();
  EXPECT_THAT(torch_problem(zip({{.name = "m/data.pkl", .data = program, .method = 8}})),
              HasSubstr("pytorch_model.bin: zip entry m/data.pkl: is compressed"));
  EXPECT_THAT(torch_problem(zip({{.name = "m/data.pkl", .data = program, .flags = 1}})),
              HasSubstr("is encrypted"));
  EXPECT_THAT(torch_problem(zip({{.name = "m/data.pkl", .data = program},
                                 {.name = "m/data.pkl", .data = program}})),
              HasSubstr("is there twice"));
  EXPECT_THAT(torch_problem(zip({{.name = "m/readme", .data = "hello"}})),
              HasSubstr("the archive has no data.pkl"));
  std::string moved = zip({{.name = "m/data.pkl", .data = program}});
  moved[moved.find("PK\x01\x02") + 42] = 9;
  EXPECT_THAT(torch_problem(moved), HasSubstr("its header is not where the directory says"));
  std::string longer = zip({{.name = "m/data.pkl", .data = program}});
  longer.replace(longer.find("PK\x01\x02") + 20, 8, std::string("\xff\xff\0\0\xff\xff\0\0", 8));
  EXPECT_THAT(torch_problem(longer), HasSubstr("reaches beyond the end of the file"));
  const std::string whole = TestFolder(kTorch).read("pytorch_model.bin");
  for (size_t cut = 4; cut < whole.size(); cut += whole.size() / 17 + 1) {
    EXPECT_THAT(torch_problem(whole.substr(0, cut)), HasSubstr("pytorch_model.bin: ")) << cut;
  }
}

TEST(Hostile, OtherFormatsAreNamed) {
  EXPECT_THAT(torch_problem(std::string("\x80\x02\x8a\x0al\xfc\x9c", 7)),
              HasSubstr("format of torch before 1.6"));
  EXPECT_THAT(torch_problem("GGUF...."), HasSubstr("is not a file that torch.save wrote"));
  EXPECT_THAT(torch_problem(""), HasSubstr("is not a file that torch.save wrote"));
}

}  // namespace
}  // namespace troupe::models
