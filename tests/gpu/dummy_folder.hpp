// The folder of a model whose shape is large enough for the fast kernels; its weights are dummies.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace troupe::models::testing {

class DummyFolder {
 public:
  static constexpr int32_t kVocab = 4096;
  DummyFolder()
      : path_(std::filesystem::temp_directory_path() / ("troupe-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "config.json") << kConfig;
  }
  ~DummyFolder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string path() const { return path_; }

 private:
  static constexpr const char* kConfig = R"({
 "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
 "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 2,
 "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
 "vocab_size": 4096, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
 "bos_token_id": 1, "eos_token_id": 2})";
  std::filesystem::path path_;
};

}  // namespace troupe::models::testing
