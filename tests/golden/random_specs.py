"""Draws configurations: for each text family any shape it allows, small and uneven.

What the golden models pin by hand is here left to chance: how many heads share a key, whether the
head is tied, which layers look through a window or hold experts, how rope is scaled. Each function
takes a random.Random and gives a configuration of transformers and the class that it describes.
"""

import random

import transformers


def rope(r: random.Random, head: int) -> tuple[dict, int]:
    """Rope parameters, and the context length that goes with them."""
    kind = r.choice(["default", "default", "linear", "dynamic", "llama3", "yarn", "longrope"])
    original, factor = r.choice([32, 48, 64]), r.choice([2.0, 3.5, 4.0, 8.0])
    out = {"rope_type": kind, "rope_theta": r.choice([1e3, 1e4, 5e5, 1e6])}
    if kind == "default":
        return out, r.choice([64, 96, 128, 256])
    out["factor"] = factor
    if kind in ("linear", "dynamic"):
        return out, r.choice([64, 96, 128, 256])
    out["original_max_position_embeddings"] = original
    if kind == "llama3":
        out |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    elif kind == "yarn":
        out |= r.choice([{}, {"beta_fast": 16.0, "beta_slow": 0.5}, {"attention_factor": 1.2},
                         {"mscale": 1.0, "mscale_all_dim": 0.7}])
    else:
        out |= {"short_factor": [1 + 0.1 * i for i in range(head // 2)],
                "long_factor": [1 + 0.6 * i for i in range(head // 2)]}
        out |= r.choice([{}, {"attention_factor": 1.2}])
    return out, int(original * factor)


def decoder(r: random.Random) -> dict:
    """The fields that Llama and its relatives share."""
    heads = r.choice([1, 2, 3, 4, 6])
    head = r.choice([8, 16, 24, 32, 40, 64])
    parameters, context = rope(r, head)
    return {
        "vocab_size": r.choice([97, 131, 200, 257, 515]), "hidden_size": heads * r.choice([8, 16]),
        "intermediate_size": r.choice([40, 56, 96]), "num_hidden_layers": r.choice([1, 2, 3, 4]),
        "num_attention_heads": heads, "head_dim": head,
        "num_key_value_heads": r.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        "max_position_embeddings": context, "rope_parameters": parameters,
        "rms_norm_eps": r.choice([1e-6, 1e-5, 1e-2]), "tie_word_embeddings": r.random() < 0.4,
        "bos_token_id": 1, "eos_token_id": 2}


def square_heads(config: dict) -> dict:
    """For families whose heads are hidden / heads wide."""
    head = config.pop("head_dim")
    return {**config, "hidden_size": config["num_attention_heads"] * head}


def windows(r: random.Random) -> dict:
    return {"use_sliding_window": r.random() < 0.5, "sliding_window": r.choice([8, 24, 40]),
            "max_window_layers": r.choice([0, 1, 2])}


def sparse(r: random.Random) -> dict:
    experts = r.choice([4, 6, 8])
    return {"num_experts": experts, "num_experts_per_tok": r.randint(1, 4),
            "norm_topk_prob": r.random() < 0.5, "moe_intermediate_size": r.choice([16, 24, 40]),
            "decoder_sparse_step": r.choice([1, 2]), "mlp_only_layers": r.choice([[], [0], [1]])}


def plain_rope(config: dict) -> dict:
    theta = config["rope_parameters"]["rope_theta"]
    return {**config, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def llama(r):
    return transformers.LlamaConfig(
        **decoder(r), attention_bias=r.random() < 0.3, mlp_bias=r.random() < 0.3,
        hidden_act=r.choice(["silu", "gelu", "gelu_pytorch_tanh", "relu"]),
    ), transformers.LlamaForCausalLM


def mistral(r):
    return transformers.MistralConfig(
        **decoder(r), sliding_window=r.choice([None, 8, 17, 32, 64])), transformers.MistralForCausalLM


def qwen2(r):
    return (transformers.Qwen2Config(**square_heads(decoder(r)), **windows(r)),
            transformers.Qwen2ForCausalLM)


def qwen3(r):
    return (transformers.Qwen3Config(**decoder(r), **windows(r), attention_bias=r.random() < 0.3),
            transformers.Qwen3ForCausalLM)


def qwen2_moe(r):
    return transformers.Qwen2MoeConfig(
        **square_heads(decoder(r)), **windows(r), **sparse(r), qkv_bias=r.random() < 0.8,
        shared_expert_intermediate_size=r.choice([16, 40])), transformers.Qwen2MoeForCausalLM


def qwen3_moe(r):
    return (transformers.Qwen3MoeConfig(**decoder(r), **sparse(r), use_sliding_window=False),
            transformers.Qwen3MoeForCausalLM)


def mixtral(r):
    experts = r.choice([3, 4, 5, 8])
    return transformers.MixtralConfig(
        **decoder(r), num_local_experts=experts, num_experts_per_tok=r.randint(1, min(3, experts)),
        sliding_window=r.choice([None, None, 16])), transformers.MixtralForCausalLM


def gemma2(r):
    return transformers.Gemma2Config(
        **plain_rope(decoder(r)), query_pre_attn_scalar=r.choice([16, 24, 64]),
        attn_logit_softcapping=r.choice([4.0, 50.0, None]), attention_bias=r.random() < 0.2,
        final_logit_softcapping=r.choice([9.0, 30.0, None]), sliding_window=r.choice([8, 16, 64]),
        hidden_activation="gelu_pytorch_tanh"), transformers.Gemma2ForCausalLM


def gemma3(r):
    config = decoder(r)
    whole = config["rope_parameters"]
    if whole["rope_type"] != "linear":
        whole = plain_rope(config)["rope_parameters"]
    config |= {
        "rope_parameters": {"full_attention": whole, "sliding_attention": {
            "rope_type": "default", "rope_theta": 1000.0}},
        "layer_types": [r.choice(["sliding_attention", "full_attention"])
                        for _ in range(config["num_hidden_layers"])]}
    return transformers.Gemma3TextConfig(
        **config, query_pre_attn_scalar=r.choice([16, 24, 64]), sliding_window=r.choice([8, 16, 64]),
        hidden_activation="gelu_pytorch_tanh", final_logit_softcapping=r.choice([None, 9.0]),
    ), transformers.Gemma3ForCausalLM


def gpt_neox(r):
    heads = r.choice([1, 2, 3, 4])
    return transformers.GPTNeoXConfig(
        vocab_size=r.choice([97, 157]), hidden_size=heads * r.choice([16, 24, 32]),
        num_attention_heads=heads, num_hidden_layers=r.choice([1, 2, 3]),
        intermediate_size=r.choice([64, 96]), max_position_embeddings=256,
        hidden_act=r.choice(["gelu", "gelu_fast", "gelu_new", "relu"]),
        rotary_pct=r.choice([0.25, 0.5, 1.0]), rotary_emb_base=r.choice([1000, 10000]),
        use_parallel_residual=r.random() < 0.5, attention_bias=r.random() < 0.7,
        tie_word_embeddings=r.random() < 0.3, layer_norm_eps=r.choice([1e-5, 2e-2]),
        bos_token_id=0, eos_token_id=0), transformers.GPTNeoXForCausalLM


def bloom(r):
    heads = r.choice([1, 2, 3, 4, 5, 6, 8])
    return transformers.BloomConfig(
        vocab_size=r.choice([97, 167]), hidden_size=heads * r.choice([8, 16]), n_head=heads,
        n_layer=r.choice([1, 2, 3]), layer_norm_epsilon=r.choice([1e-5, 2e-2]),
        apply_residual_connection_post_layernorm=r.random() < 0.4,
        bos_token_id=1, eos_token_id=2), transformers.BloomForCausalLM


def deepseek_v2(r):
    heads, layers, grouped = r.choice([1, 2, 4]), r.choice([1, 2, 3]), r.random() < 0.5
    rope_parameters, context = {"rope_type": "default", "rope_theta": r.choice([1e3, 1e4])}, 256
    if r.random() < 0.6:
        original = r.choice([32, 64])
        rope_parameters |= {
            "rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "mscale": r.choice([0.707, 1.0]), "mscale_all_dim": r.choice([0.6, 0.707, 1.0]),
            "original_max_position_embeddings": original}
        context = 4 * original
    return transformers.DeepseekV2Config(
        vocab_size=r.choice([97, 179]), hidden_size=r.choice([32, 48]), intermediate_size=64,
        moe_intermediate_size=r.choice([16, 24]), num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=r.choice([None, 16, 24]),
        kv_lora_rank=r.choice([16, 32, 64]), qk_nope_head_dim=r.choice([8, 16, 32]),
        qk_rope_head_dim=r.choice([8, 16, 32]), v_head_dim=r.choice([8, 12, 16, 32]),
        first_k_dense_replace=r.randint(0, layers), n_routed_experts=8,
        n_shared_experts=r.choice([1, 2]), num_experts_per_tok=r.randint(1, 4),
        n_group=r.choice([2, 4]) if grouped else 1, topk_group=2 if grouped else 1,
        topk_method="group_limited_greedy" if grouped else "greedy", norm_topk_prob=False,
        routed_scaling_factor=r.choice([1.0, 2.5]), max_position_embeddings=context,
        rope_parameters=rope_parameters, attention_bias=r.random() < 0.2, bos_token_id=0,
        eos_token_id=1, tie_word_embeddings=r.random() < 0.3), transformers.DeepseekV2ForCausalLM


FAMILIES = {draw.__name__: draw for draw in (
    llama, mistral, qwen2, qwen3, qwen2_moe, qwen3_moe, mixtral, gemma2, gemma3, gpt_neox, bloom,
    deepseek_v2)}
