// The table of visual families: which model_type and architecture of config.json each answers to.
// Adding one: docs/adding-a-model.md.
#pragma once

#include "models/config.hpp"
#include "vision/tower.hpp"

namespace troupe::vision {

// Null description: the config has no visual half. One that is not known is refused with those that
// are.
Result<bool> describe(const models::Fields& config, VisionDescription& out);

// One file each; problems stick to `config`.
void describe_llava(const models::Fields& config, VisionDescription& out);
void describe_llava_next(const models::Fields& config, VisionDescription& out);
void describe_internvl(const models::Fields& config, VisionDescription& out);
void describe_internvl_chat(const models::Fields& config, VisionDescription& out);
void describe_qwen2_vl(const models::Fields& config, VisionDescription& out);
void describe_qwen2_5_vl(const models::Fields& config, VisionDescription& out);
void describe_gemma3(const models::Fields& config, VisionDescription& out);
void describe_idefics3(const models::Fields& config, VisionDescription& out);
void describe_mllama(const models::Fields& config, VisionDescription& out);
void describe_minicpmv(const models::Fields& config, VisionDescription& out);
void describe_cogvlm2(const models::Fields& config, VisionDescription& out);

}  // namespace troupe::vision
