// The families, one file each. Adding one: docs/adding-a-model.md.
#pragma once

namespace troupe::models {

class Fields;
struct ModelDescription;

void describe_llama(const Fields& config, ModelDescription& out);
void describe_mistral(const Fields& config, ModelDescription& out);
void describe_qwen2(const Fields& config, ModelDescription& out);
void describe_qwen2_vl(const Fields& config, ModelDescription& out);
void describe_qwen2_moe(const Fields& config, ModelDescription& out);
void describe_qwen3(const Fields& config, ModelDescription& out);
void describe_qwen3_moe(const Fields& config, ModelDescription& out);
void describe_gemma2(const Fields& config, ModelDescription& out);
void describe_gemma3(const Fields& config, ModelDescription& out);
void describe_cogvlm2(const Fields& config, ModelDescription& out);
void describe_minicpmv(const Fields& config, ModelDescription& out);
void describe_mllama(const Fields& config, ModelDescription& out);
void describe_internlm2(const Fields& config, ModelDescription& out);
void describe_gpt_neox(const Fields& config, ModelDescription& out);
void describe_bloom(const Fields& config, ModelDescription& out);
void describe_mixtral(const Fields& config, ModelDescription& out);
void describe_deepseek_v2(const Fields& config, ModelDescription& out);

}  // namespace troupe::models
