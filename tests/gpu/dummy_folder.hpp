// The folder of a model whose shape is large enough for the fast kernels; its weights are dummies.
#pragma once

#include <cstdint>
#include <string>

#include "text/test_folder.hpp"

namespace troupe::models::testing {

class DummyFolder {
 public:
  static constexpr int32_t kVocab = 4096;
  DummyFolder() { folder_.write("config.json", kConfig); }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }

 private:
  static constexpr const char* kConfig = R"({
 "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
 "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 2,
 "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
 "vocab_size": 4096, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
 "bos_token_id": 1, "eos_token_id": 2})";
  text::TestFolder folder_;
};

}  // namespace troupe::models::testing
