// For tests: model folders made up at run time, whole or damaged.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace troupe::models::testing {

// A temporary folder, gone with the object.
class TestFolder {
 public:
  TestFolder();
  explicit TestFolder(const std::string& copied_from);
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& bytes) const;
  [[nodiscard]] std::string read(const std::string& name) const;
  void remove(const std::string& name) const;
  // Replaces the first occurrence; the test fails when there is none.
  void replace(const std::string& name, const std::string& from, const std::string& to) const;
  void truncate(const std::string& name, size_t bytes) const;

 private:
  std::string path_;
};

// A config of a tiny Llama: `extra` is JSON that follows its fields ("\"rope_theta\": 1").
std::string tiny_config(const std::string& extra = "");

std::string safetensors(const std::string& header, size_t data_bytes);

struct ZipItem {
  std::string name, data;
  uint16_t method = 0;
  uint16_t flags = 0;
};
std::string zip(const std::vector<ZipItem>& items);

// Opcodes of a pickle, written out.
class Pickle {
 public:
  Pickle() { out_ = "\x80\x02"; }
  Pickle& op(char c) {
    out_.push_back(c);
    return *this;
  }
  Pickle& raw(const std::string& s) {
    out_ += s;
    return *this;
  }
  Pickle& global(const std::string& module, const std::string& name);
  Pickle& text(const std::string& s);
  Pickle& integer(int32_t n);
  // A tensor as torch.save writes it.
  Pickle& tensor(const std::string& key, const std::string& type, int32_t elements, int32_t offset,
                 const std::vector<int32_t>& shape, const std::vector<int32_t>& strides);
  std::string stop() { return out_ + "."; }
  [[nodiscard]] const std::string& cut() const { return out_; }  // without the stop mark

 private:
  std::string out_;
};

}  // namespace troupe::models::testing
