#include "vision/processors/processors.hpp"

#include "vision/processors/settings.hpp"

namespace troupe::vision {
namespace {

using Open = Result<OpenedProcessor> (*)(const ProcessorFiles&);
struct Family {
  const char* model_type;
  Open open;
};
constexpr Family kFamilies[] = {
    {"cogvlm", open_cogvlm2},      {"cogvlm2", open_cogvlm2},
    {"gemma3", open_gemma3},       {"idefics3", open_idefics3},
    {"internvl", open_internvl},   {"internvl_chat", open_internvl_chat},
    {"llava", open_llava},         {"llava_next", open_llava_next},
    {"minicpmv", open_minicpmv},   {"mistral3", open_pixtral},
    {"mllama", open_mllama},       {"pixtral", open_pixtral},
    {"qwen2_5_vl", open_qwen2_vl}, {"qwen2_vl", open_qwen2_vl},
    {"smolvlm", open_idefics3},
};

const Family* family_of(const std::string& model_type) {
  for (const Family& family : kFamilies) {
    if (model_type == family.model_type) return &family;
  }
  return nullptr;
}

}  // namespace

bool has_processor(const std::string& model_type) {
  return family_of(model_type) != nullptr;
}

Result<OpenedProcessor> open_processor(const ProcessorFiles& files) {
  std::string model_type = files.model.text("model_type", "");
  const auto named = files.model.texts("architectures");
  if (!named.empty() && named.front() == "CogVLMForCausalLM") model_type = "cogvlm2";  // has none
  // Pixtral's folders are a "llava" whose tower says what it is.
  const bool pixtral = files.model.is_object("vision_config") &&
                       files.model.object("vision_config").text("model_type", "") == "pixtral";
  const Family* family = family_of(pixtral ? "pixtral" : model_type);
  if (family == nullptr) {
    return unsupported("config.json: model_type " + model_type +
                       " has no image processor here; docs/vision.md lists those that have");
  }
  TR_ASSIGN(OpenedProcessor opened, family->open(files));
  TR_TRY(files.status());
  return opened;
}

Result<OpenedProcessor> open_processor(const std::string& folder) {
  TR_ASSIGN(const ProcessorFiles files, ProcessorFiles::read(folder));
  return open_processor(files);
}

}  // namespace troupe::vision
