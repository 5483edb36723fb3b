"""The table of golden models: one on-disk config.json each, small, and each odd in its own way.

The configurations are written as the hub writes them (`rope_theta`, `rope_scaling`, `torch_dtype`),
not as the library that makes the reference would save them today; `llama31-new-form` is the
exception that has `rope_parameters`. Together they vary what an implementation may be tempted to
assume: grouped heads, tied heads, biases, odd vocabulary sizes, heads wider than hidden / heads,
windows shorter than a prompt, an epsilon too large to be forgotten.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Spec:
    """One golden model: `form` is how its weights lie on disk (safetensors, sharded or bin)."""

    name: str
    about: str
    config: dict
    generation_config: dict | None = None
    form: str = "safetensors"
    ends: int = 1  # how many end-of-text tokens
    # Prompt lengths; the last ones go past windows and original contexts.
    lengths: tuple[int, ...] = (1, 7, 33, 97, 130)
    # Tensors that published checkpoints carry and that mean nothing: {name: shape}.
    stray: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    # BLOOM's own checkpoints name their tensors without "transformer.".
    strip_prefix: str = ""


def llama(**changes) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 131,
        "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": None, "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "bos_token_id": 1, "torch_dtype": "float32", **changes}


def without(config: dict, *keys: str) -> dict:
    return {key: value for key, value in config.items() if key not in keys}


LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64, "rope_type": "llama3"}

LLAMA = [
    Spec("llama1", "as in 2023: no head_dim, no rope_theta, no grouped heads, weights in a .bin",
         without(llama(hidden_size=48, num_attention_heads=3, num_key_value_heads=3,
                       rms_norm_eps=1e-6, intermediate_size=72),
                 "head_dim", "rope_theta", "num_key_value_heads", "attention_bias", "mlp_bias",
                 "rope_scaling"),
         form="bin", stray={f"model.layers.{i}.self_attn.rotary_emb.inv_freq": (8,)
                            for i in range(2)}),
    Spec("llama2-linear", "linear rope scaling, written with the old key `type`",
         llama(rope_scaling={"type": "linear", "factor": 2.5}, vocab_size=149,
               rms_norm_eps=0.02)),
    Spec("llama2-dynamic", "dynamic NTK scaling past 64 positions",
         llama(rope_scaling={"type": "dynamic", "factor": 4.0}, max_position_embeddings=64),
         lengths=(1, 7, 33, 57, 97, 130)),
    Spec("llama3", "grouped heads 6/2, theta 500000, two shards, two end tokens",
         llama(num_attention_heads=6, num_key_value_heads=2, vocab_size=521, rope_theta=500000.0,
               hidden_size=48),
         ends=2, generation_config={"do_sample": True, "temperature": 0.6, "top_p": 0.9,
                                    "bos_token_id": 1},
         form="sharded"),
    Spec("llama31", "llama3 rope scaling past an original context of 64, tied head, one kv head",
         llama(rope_theta=500000.0, rope_scaling=LLAMA3_ROPE, tie_word_embeddings=True,
               num_key_value_heads=1, head_dim=32, vocab_size=257)),
    Spec("llama31-new-form", "the same scaling in the newer form: rope_parameters and dtype",
         {**without(llama(vocab_size=163), "rope_theta", "rope_scaling", "torch_dtype"),
          "rope_parameters": {**LLAMA3_ROPE, "rope_theta": 500000.0}, "dtype": "float32"}),
    Spec("llama-yarn", "yarn past an original context of 32",
         llama(rope_scaling={"rope_type": "yarn", "factor": 8.0, "beta_fast": 2.0, "beta_slow": 0.5,
                             "original_max_position_embeddings": 32}, vocab_size=137, head_dim=32,
               num_attention_heads=2, num_key_value_heads=1, rope_theta=1000.0)),
    Spec("llama-longrope", "longrope: short factors up to 64 positions, long ones beyond",
         llama(rope_scaling={
             "rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 64,
             "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0],
             "long_factor": [1.0, 1.4, 2.0, 2.7, 3.1, 4.2, 5.5, 6.0]}),
         lengths=(1, 7, 33, 57, 97, 130)),
    Spec("llama-biases", "biases everywhere, heads wider than hidden / heads, plain gelu",
         llama(attention_bias=True, mlp_bias=True, head_dim=24, num_attention_heads=2,
               num_key_value_heads=2, hidden_act="gelu", vocab_size=139, num_hidden_layers=3)),
]

MISTRAL = [
    Spec("mistral", "a sliding window of 24 in every layer",
         {**without(llama(vocab_size=151, num_hidden_layers=3, rms_norm_eps=0.03), "rope_scaling",
                    "attention_bias", "mlp_bias"),
          "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 24}),
    Spec("mistral-no-window", "no window, heads wider than hidden / heads, two end tokens",
         {**without(llama(head_dim=32, num_attention_heads=2, num_key_value_heads=1,
                          rope_theta=1e6), "rope_scaling", "attention_bias", "mlp_bias"),
          "architectures": ["MistralForCausalLM"], "model_type": "mistral",
          "sliding_window": None}, ends=2),
]

QWEN = [
    Spec("qwen2", "biases on q, k and v, tied head, theta 1e6; a window that is switched off",
         {**without(llama(tie_word_embeddings=True, vocab_size=211, rope_theta=1e6, hidden_size=48,
                          num_attention_heads=3, num_key_value_heads=1), "rope_scaling", "head_dim",
                    "attention_bias", "mlp_bias"),
          "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "sliding_window": 16,
          "use_sliding_window": False, "max_window_layers": 1}),
    Spec("qwen2-window", "a window of 20 from layer 1 on, whole attention below; untied",
         {**without(llama(num_hidden_layers=3, hidden_size=32, num_attention_heads=2,
                          num_key_value_heads=2, rms_norm_eps=0.02), "rope_scaling", "head_dim",
                    "attention_bias", "mlp_bias"),
          "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "sliding_window": 20,
          "use_sliding_window": True, "max_window_layers": 1}),
    Spec("qwen3", "norms on q and k, heads wider than hidden / heads, tied head",
         {**without(llama(tie_word_embeddings=True, vocab_size=173, rope_theta=1e6, head_dim=24,
                          rms_norm_eps=0.02),
                    "mlp_bias"),
          "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "sliding_window": None,
          "use_sliding_window": False, "max_window_layers": 2}),
]

GEMMA = [
    Spec("gemma2", "soft-caps, norms before and after, windows of 16 in layers 0 and 2",
         {**without(llama(num_hidden_layers=3, vocab_size=193, tie_word_embeddings=True,
                          rms_norm_eps=0.02), "rope_scaling", "mlp_bias", "hidden_act"),
          "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2",
          "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
          "query_pre_attn_scalar": 24, "attn_logit_softcapping": 4.0,
          "final_logit_softcapping": 9.0, "sliding_window": 16, "cache_implementation": "hybrid"},
         generation_config={"cache_implementation": "hybrid", "bos_token_id": 1}),
]


def neox(**changes) -> dict:
    return {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "vocab_size": 157,
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 3, "hidden_act": "gelu", "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5, "rotary_pct": 0.25, "rotary_emb_base": 10000,
        "use_parallel_residual": True, "tie_word_embeddings": False, "bos_token_id": 0,
        "torch_dtype": "float32", **changes}


NEOX = [
    Spec("neox-parallel", "parallel residual, a quarter of each head rotated, stray mask tensors",
         neox(), stray={f"gpt_neox.layers.{i}.attention.{name}": shape for i in range(2)
                        for name, shape in (("bias", (1, 1, 16, 16)), ("masked_bias", ()),
                                            ("rotary_emb.inv_freq", (2,)))}),
    Spec("neox-sequential", "one residual after the other, half of each head rotated, fast gelu",
         neox(use_parallel_residual=False, rotary_pct=0.5, hidden_act="gelu_fast", hidden_size=32,
              layer_norm_eps=0.03,
              num_attention_heads=2, intermediate_size=80, rotary_emb_base=25000)),
]


def bloom(**changes) -> dict:
    return {
        "architectures": ["BloomForCausalLM"], "model_type": "bloom", "vocab_size": 167,
        "hidden_size": 48, "n_layer": 2, "n_head": 3, "layer_norm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": False, "bos_token_id": 1,
        "seq_length": 256, "torch_dtype": "float32", **changes}


BLOOM = [
    Spec("bloom", "ALiBi over three heads, names without the prefix, tied head",
         bloom(), strip_prefix="transformer."),
    Spec("bloom-post-norm", "ALiBi over four heads, residuals taken after the norm",
         bloom(n_head=4, hidden_size=32, layer_norm_epsilon=0.03,
               apply_residual_connection_post_layernorm=True)),
]

MIXTRAL = [
    Spec("mixtral", "two of five experts", {
        **without(llama(rope_theta=1e6, intermediate_size=40, rms_norm_eps=0.02), "rope_scaling",
                  "attention_bias", "mlp_bias"),
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 5,
        "num_experts_per_tok": 2, "sliding_window": None, "output_router_logits": False}),
]

QWEN_MOE = [
    Spec("qwen2-moe", "a shared expert weighed by a gate, weights not renormalised, a dense layer "
         "first",
         {**without(llama(rope_theta=1e6, vocab_size=151, num_hidden_layers=3, intermediate_size=48),
                    "rope_scaling", "attention_bias", "mlp_bias", "head_dim"),
          "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "num_experts": 6,
          "num_experts_per_tok": 3, "norm_topk_prob": False, "moe_intermediate_size": 24,
          "shared_expert_intermediate_size": 40, "decoder_sparse_step": 1, "mlp_only_layers": [0],
          "use_sliding_window": False, "sliding_window": 64, "max_window_layers": 3,
          "output_router_logits": False}),
    Spec("qwen3-moe", "norms on q and k, weights renormalised, no shared expert, a dense layer last",
         {**without(llama(rope_theta=1e6, vocab_size=157, num_hidden_layers=3, intermediate_size=48,
                          head_dim=16),
                    "rope_scaling", "mlp_bias"),
          "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 8,
          "num_experts_per_tok": 3, "norm_topk_prob": True, "moe_intermediate_size": 24,
          "decoder_sparse_step": 1, "mlp_only_layers": [2], "use_sliding_window": False,
          "sliding_window": None, "output_router_logits": False}),
]


def deepseek(**changes) -> dict:
    return {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "vocab_size": 179,
        "hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 24,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
        "q_lora_rank": None, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
        "v_head_dim": 12, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_routed_experts": 6,
        "n_shared_experts": 2, "num_experts_per_tok": 3, "n_group": 1, "topk_group": 1,
        "topk_method": "greedy", "scoring_func": "softmax", "norm_topk_prob": False,
        "routed_scaling_factor": 1.0, "hidden_act": "silu", "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_scaling": None, "attention_bias": False,
        "tie_word_embeddings": False, "bos_token_id": 0, "torch_dtype": "float32", **changes}


DEEPSEEK = [
    Spec("deepseek-v2-lite", "latent attention with a plain q, one dense layer, shared experts, "
         "yarn",
         deepseek(rope_theta=1000, qk_rope_head_dim=16, rope_scaling={
             "type": "yarn", "factor": 8, "beta_fast": 2, "beta_slow": 0.25, "mscale": 0.707,
             "mscale_all_dim": 0.707, "original_max_position_embeddings": 32})),
    Spec("deepseek-v2", "latent q as well, experts chosen within groups and scaled, yarn with "
         "unequal mscales",
         deepseek(q_lora_rank=24, topk_method="group_limited_greedy", n_group=4, topk_group=2,
                  n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1,
                  routed_scaling_factor=2.5, first_k_dense_replace=1, num_hidden_layers=2,
                  rope_scaling={
                      "type": "yarn", "factor": 4, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                      "mscale_all_dim": 0.6, "original_max_position_embeddings": 64})),
    Spec("deepseek-v2-no-rope-scaling", "no yarn, two dense layers, a value head wider than "
         "a key's",
         deepseek(first_k_dense_replace=2, v_head_dim=32, num_attention_heads=2,
                  num_key_value_heads=2, qk_rope_head_dim=16)),
]

ALL = [*LLAMA, *MISTRAL, *QWEN, *GEMMA, *NEOX, *BLOOM, *MIXTRAL, *QWEN_MOE, *DEEPSEEK]
