#include "vision/families/families.hpp"

#include <array>
#include <string>
#include <string_view>

namespace troupe::vision {
namespace {

struct Family {
  std::string_view model_type;
  void (*describe)(const models::Fields& config, VisionDescription& out);
  std::string_view architecture{};  // where published configs have no model_type
};
constexpr std::array<Family, 12> kFamilies = {
    {{"cogvlm2", describe_cogvlm2, "CogVLMForCausalLM"},
     {"gemma3", describe_gemma3},
     {"idefics3", describe_idefics3},
     {"internvl", describe_internvl},
     {"internvl_chat", describe_internvl_chat},
     {"llava", describe_llava},
     {"llava_next", describe_llava_next},
     {"minicpmv", describe_minicpmv},
     {"mllama", describe_mllama},
     {"qwen2_5_vl", describe_qwen2_5_vl},
     {"qwen2_vl", describe_qwen2_vl},
     {"smolvlm", describe_idefics3}}};

}  // namespace

Result<bool> describe(const models::Fields& config, VisionDescription& out) {
  const std::string model_type = config.text("model_type", "");
  const std::vector<std::string> named = config.texts("architectures");
  const std::string architecture = named.empty() ? "" : named.front();
  TR_TRY(config.status());
  std::string known;
  for (const Family& family : kFamilies) {
    const bool by_name = !family.architecture.empty() && family.architecture == architecture;
    if (family.model_type == model_type || by_name) {
      out.family = family.model_type;
      family.describe(config, out);
      TR_TRY(config.status());
      return true;
    }
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  if (!config.has("vision_config")) return false;
  return unsupported(config.label() + ": model_type is \"" + model_type.substr(0, 64) +
                     "\", whose visual half is not known; known are " + known +
                     " (docs/adding-a-model.md says how to add one)");
}

}  // namespace troupe::vision
