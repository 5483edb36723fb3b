// The processors of the families, found by config.json's model_type. A family is a file that reads
// its settings and plans (recipe.hpp); its line stands in processors.cpp.
#pragma once

#include <memory>
#include <string>

#include "base/status.hpp"
#include "vision/processor.hpp"

namespace troupe::vision {

struct ProcessorFiles;

struct OpenedProcessor {
  std::unique_ptr<const Processor> processor;
  std::string placeholder;  // stands for a picture in what the family's chat template renders
  std::string image_token;  // the token of PictureLayout::prompt that takes an embedding row
};

// Of a model folder; `unsupported` names the model_type where no family knows it.
Result<OpenedProcessor> open_processor(const std::string& folder);
Result<OpenedProcessor> open_processor(const ProcessorFiles& files);
bool has_processor(const std::string& model_type);

// One file each. `files` are read to the end; their problems are asked for by open_processor().
Result<OpenedProcessor> open_llava(const ProcessorFiles& files);
Result<OpenedProcessor> open_llava_next(const ProcessorFiles& files);
Result<OpenedProcessor> open_internvl(const ProcessorFiles& files);
Result<OpenedProcessor> open_internvl_chat(const ProcessorFiles& files);
Result<OpenedProcessor> open_qwen2_vl(const ProcessorFiles& files);
Result<OpenedProcessor> open_gemma3(const ProcessorFiles& files);
Result<OpenedProcessor> open_idefics3(const ProcessorFiles& files);
Result<OpenedProcessor> open_pixtral(const ProcessorFiles& files);
Result<OpenedProcessor> open_minicpmv(const ProcessorFiles& files);
Result<OpenedProcessor> open_mllama(const ProcessorFiles& files);
Result<OpenedProcessor> open_cogvlm2(const ProcessorFiles& files);

}  // namespace troupe::vision
