#include "models/families/families.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "models/config.hpp"
#include "models/description.hpp"
#include "models/families/list.hpp"
#include "models/families/nested.hpp"

namespace troupe::models {
namespace {

using Names = std::array<std::string_view, 1>;
constexpr Names kLlama = {"LlamaForCausalLM"};
constexpr Names kMistral = {"MistralForCausalLM"};
constexpr Names kQwen2 = {"Qwen2ForCausalLM"};
constexpr Names kQwen2Moe = {"Qwen2MoeForCausalLM"};
constexpr Names kQwen3 = {"Qwen3ForCausalLM"};
constexpr Names kQwen3Moe = {"Qwen3MoeForCausalLM"};
constexpr Names kGemma2 = {"Gemma2ForCausalLM"};
constexpr Names kGptNeox = {"GPTNeoXForCausalLM"};
constexpr Names kBloom = {"BloomForCausalLM"};
constexpr Names kMixtral = {"MixtralForCausalLM"};
constexpr Names kDeepseekV2 = {"DeepseekV2ForCausalLM"};

constexpr Names kQwen2Vl = {"Qwen2VLForConditionalGeneration"};
constexpr Names kQwen25Vl = {"Qwen2_5_VLForConditionalGeneration"};

constexpr Names kGemma3 = {"Gemma3ForCausalLM"};

constexpr Names kMiniCpmV = {"MiniCPMV"};
constexpr Names kCogVlm = {"CogVLMForCausalLM"};

constexpr Names kMllama = {"MllamaForConditionalGeneration"};

constexpr Names kInternLm2 = {"InternLM2ForCausalLM"};

constexpr std::array<Family, 18> kFamilies = {
    {{"llama", "llama", kLlama, describe_llama},
     {"mistral", "mistral", kMistral, describe_mistral},
     {"qwen2", "qwen2", kQwen2, describe_qwen2},
     {"qwen2_moe", "qwen2_moe", kQwen2Moe, describe_qwen2_moe},
     {"qwen3", "qwen3", kQwen3, describe_qwen3},
     {"qwen3_moe", "qwen3_moe", kQwen3Moe, describe_qwen3_moe},
     {"gemma2", "gemma2", kGemma2, describe_gemma2},
     {"gemma3", "gemma3_text", kGemma3, describe_gemma3},
     {"gpt_neox", "gpt_neox", kGptNeox, describe_gpt_neox},
     {"bloom", "bloom", kBloom, describe_bloom},
     {"mixtral", "mixtral", kMixtral, describe_mixtral},
     {"deepseek_v2", "deepseek_v2", kDeepseekV2, describe_deepseek_v2},
     {"qwen2_vl", "qwen2_vl", kQwen2Vl, describe_qwen2_vl},
     {"qwen2_5_vl", "qwen2_5_vl", kQwen25Vl, describe_qwen2_vl},
     {"internlm2", "internlm2", kInternLm2, describe_internlm2},
     {"mllama", "mllama", kMllama, describe_mllama},
     {"minicpmv", "minicpmv", kMiniCpmV, describe_minicpmv},
     {"cogvlm2", "cogvlm2", kCogVlm, describe_cogvlm2}}};

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

const Family* find(const std::string& architecture, const std::string& model_type) {
  for (const Family& family : kFamilies) {
    const auto& names = family.architectures;
    if (architecture.empty() ? family.model_type == model_type
                             : std::find(names.begin(), names.end(), architecture) != names.end()) {
      return &family;
    }
  }
  return nullptr;
}

Status unknown(const Fields& config, const std::string& wanted) {
  constexpr size_t kNameMax = 64;
  const std::string shown = wanted.substr(0, kNameMax);
  std::string known;
  std::string_view nearest;
  size_t least = shown.size() / 2 + 2;  // further away is no typing error
  for (const Family& family : kFamilies) {
    for (const std::string_view name : family.architectures) {
      known += (known.empty() ? "" : ", ") + std::string(name);
      const size_t distance = edit_distance(shown, name);
      if (distance < least) {
        least = distance;
        nearest = name;
      }
    }
  }
  return unsupported(config.label() + ": architectures is \"" + shown + "\", which is not known" +
                     (nearest.empty() ? "" : "; the nearest is " + std::string(nearest)) +
                     "; known are " + known + " (docs/adding-a-model.md says how to add one)");
}

}  // namespace

std::span<const Family> families() {
  return kFamilies;
}

namespace {

// The language half by its own family; checkpoints differ in what stands before its names.
Status describe_nested(const Fields& config, ModelDescription& out) {
  const Fields text = text_config(config);
  const std::string model_type = text.text("model_type", "");
  const std::vector<std::string> named = text.texts("architectures");
  const Family* family = find("", model_type);
  if (family == nullptr && !named.empty()) family = find(named.front(), "");
  if (family == nullptr) return unknown(config, model_type);
  out.family = config.text("model_type", std::string(family->name));
  family->describe(text, out);
  add_nested_names(out);
  return config.status();
}

}  // namespace

Status describe(const Fields& config, ModelDescription& out) {
  const std::vector<std::string> architectures = config.texts("architectures");
  const std::string architecture = architectures.empty() ? "" : architectures.front();
  const std::string model_type = config.text("model_type", "");
  TR_TRY(config.status());
  if (architecture.empty() && model_type.empty()) {
    return corrupt_model(config.label() + ": has neither architectures nor model_type");
  }
  const Family* family = find(architecture, model_type);
  if (family == nullptr && has_text_config(config)) return describe_nested(config, out);
  if (family == nullptr) return unknown(config, architecture.empty() ? model_type : architecture);
  out.family = family->name;
  family->describe(config, out);
  return config.status();
}

}  // namespace troupe::models
