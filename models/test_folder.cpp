#include "models/test_folder.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace troupe::models::testing {
namespace fs = std::filesystem;
namespace {

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

TestFolder::TestFolder() {
  std::string pattern = (fs::temp_directory_path() / "troupe-test-XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

TestFolder::TestFolder(const std::string& from) : TestFolder() {
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_regular_file())
      fs::copy_file(entry.path(), fs::path(path_) / entry.path().filename());
  }
}

TestFolder::~TestFolder() {
  fs::remove_all(path_);
}

void TestFolder::write(const std::string& name, const std::string& bytes) const {
  std::ofstream(path_ + "/" + name, std::ios::binary) << bytes;
}

std::string TestFolder::read(const std::string& name) const {
  std::ostringstream out;
  out << std::ifstream(path_ + "/" + name, std::ios::binary).rdbuf();
  return out.str();
}

void TestFolder::remove(const std::string& name) const {
  fs::remove(path_ + "/" + name);
}

void TestFolder::replace(const std::string& name, const std::string& from,
                         const std::string& to) const {
  std::string bytes = read(name);
  const size_t at = bytes.find(from);
  ASSERT_NE(at, std::string::npos) << from << " is not in " << name;
  write(name, bytes.replace(at, from.size(), to));
}

void TestFolder::truncate(const std::string& name, size_t bytes) const {
  fs::resize_file(path_ + "/" + name, bytes);
}

std::string tiny_config(const std::string& extra) {
  return R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 40,
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "torch_dtype": "float32")" +
         std::string(extra.empty() ? "" : ", ") + extra + "}";
}

std::string safetensors(const std::string& header, size_t data_bytes) {
  std::string out;
  put(out, uint64_t{header.size()});
  return out + header + std::string(data_bytes, '\0');
}

std::string zip(const std::vector<ZipItem>& items) {
  std::string out, directory;
  for (const ZipItem& item : items) {
    const auto offset = static_cast<uint32_t>(out.size());
    const auto size = static_cast<uint32_t>(item.data.size());
    std::string fields;  // what the local header and the directory have in common
    put(fields, uint16_t{20});
    put(fields, item.flags);
    put(fields, item.method);
    put(fields, uint32_t{0});  // time
    put(fields, uint32_t{0});  // checksum
    put(fields, size);
    put(fields, size);
    put(fields, static_cast<uint16_t>(item.name.size()));
    put(fields, uint16_t{0});
    out += "PK\x03\x04" + fields + item.name + item.data;
    directory += "PK\x01\x02" + std::string(2, '\0') + fields + std::string(10, '\0');
    put(directory, offset);
    directory += item.name;
  }
  const auto offset = static_cast<uint32_t>(out.size());
  out += directory + "PK\x05\x06" + std::string(4, '\0');
  put(out, static_cast<uint16_t>(items.size()));
  put(out, static_cast<uint16_t>(items.size()));
  put(out, static_cast<uint32_t>(directory.size()));
  put(out, offset);
  put(out, uint16_t{0});
  return out;
}

Pickle& Pickle::global(const std::string& module, const std::string& name) {
  out_ += "c" + module + "\n" + name + "\n";
  return *this;
}

Pickle& Pickle::text(const std::string& s) {
  out_ += "X";
  put(out_, static_cast<uint32_t>(s.size()));
  out_ += s;
  return *this;
}

Pickle& Pickle::integer(int32_t n) {
  out_ += "J";
  put(out_, n);
  return *this;
}

Pickle& Pickle::tensor(const std::string& key, const std::string& type, int32_t elements,
                       int32_t offset, const std::vector<int32_t>& shape,
                       const std::vector<int32_t>& strides) {
  global("torch._utils", "_rebuild_tensor_v2").op('(').op('(').text("storage");
  global("torch", type).text(key).text("cpu").integer(elements).op('t').op('Q').integer(offset);
  for (const auto* list : {&shape, &strides}) {
    op('(');
    for (const int32_t n : *list) integer(n);
    op('t');
  }
  return op('\x89').global("collections", "OrderedDict").op(')').op('R').op('t').op('R');
}

}  // namespace troupe::models::testing
