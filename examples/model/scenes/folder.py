"""The model's folder: configurations, tokenizer, template and processor, as transformers has them.

The shape is InternVL's in transformers: a vision tower over tiles of 96 by 96 pixels (patches of 8,
four patches to one of the 36 tokens of a tile), a projector of two layers and a Llama decoder.
"""

import json
import pathlib
import random
import sys

import tokenizers

import conversations
import questions
import scene as scenes

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import byte_pairs  # noqa: E402

BEGIN, SYSTEM, USER, ASSISTANT, END, PAD, IMAGE_BEGIN, IMAGE_END, IMAGE, VIDEO = SPECIALS = [
    "<|begin|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|pad|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
]
ID = {name: index for index, name in enumerate(SPECIALS)}
VOCABULARY = 1024
CONTEXT = 2048
TILE_TOKENS = 36
TOKENIZER_SEED = 7
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role not in ['system', 'user', 'assistant'] %}
{{- raise_exception('Lookout knows the roles system, user and assistant, not ' + message.role) }}
{%- endif %}
{{- '<|' + message.role + '|>' }}
{%- if message.content is string %}
{{- message.content | trim }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'text' %}
{{- part.text | trim }}
{%- elif part.type in ['image', 'image_url'] %}
{{- '<IMG_CONTEXT>' }}
{%- else %}
{{- raise_exception('Lookout reads text and pictures, not ' + part.type) }}
{%- endif %}
{%- endfor %}
{%- endif %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>' }}
{%- endif %}"""

TEXT_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 416,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": CONTEXT,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": ID[BEGIN],
    "eos_token_id": ID[END],
    "pad_token_id": ID[PAD],
    "torch_dtype": "bfloat16",
}
VISION_CONFIG = {
    "model_type": "internvl_vision",
    "architectures": ["InternVLVisionModel"],
    "hidden_size": 192,
    "intermediate_size": 640,
    "num_hidden_layers": 8,
    "num_attention_heads": 3,
    "attention_bias": True,
    "use_qk_norm": False,
    "hidden_act": "gelu",
    "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6,
    "image_size": [scenes.TILE, scenes.TILE],
    "patch_size": [8, 8],
    "num_channels": 3,
    "use_mask_token": False,
    "use_absolute_position_embeddings": True,
    "layer_scale_init_value": 0.3,
    "use_mean_pooling": True,
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "hidden_dropout_prob": 0.0,
    "projection_dropout": 0.0,
    "torch_dtype": "bfloat16",
}
CONFIG = {
    "architectures": ["InternVLForConditionalGeneration"],
    "model_type": "internvl",
    "text_config": TEXT_CONFIG,
    "vision_config": VISION_CONFIG,
    "image_token_id": ID[IMAGE],
    "image_seq_length": TILE_TOKENS,
    "downsample_ratio": 0.5,
    "projector_hidden_act": "gelu",
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default",
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
RESIZE = {
    "processor_class": "InternVLProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": scenes.TILE, "width": scenes.TILE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}


def train_tokenizer() -> tokenizers.Tokenizer:
    """Of our own conversations. Digits stay single, and so do the capitals of what is read from a picture, so
    that any number and any word can be spelt."""
    rng = random.Random(TOKENIZER_SEED)
    inventor, asker = scenes.Inventor(rng), conversations.Talker(rng)
    lines = list(questions.SYSTEM_PROMPTS)
    for _ in range(8000):
        drawn = inventor.scene()
        for turn in (*asker.about_one(drawn, 4, []), asker.without_picture(drawn)):
            lines += [turn.question, turn.answer]
    capitals = tokenizers.Regex("[A-Z](?=[A-Z])|(?<=[A-Z])[A-Z]")
    singles = [
        byte_pairs.pre.Digits(individual_digits=True),
        byte_pairs.pre.Split(capitals, behavior="isolated"),
    ]
    return byte_pairs.train(lines, singles, VOCABULARY, SPECIALS)


def write_json(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_description(tokenizer: tokenizers.Tokenizer, folder: pathlib.Path) -> None:
    """Everything but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {
        "start_image_token": IMAGE_BEGIN,
        "end_image_token": IMAGE_END,
        "context_image_token": IMAGE,
        "video_token": VIDEO,
    }
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "InternVLProcessor",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
            "model_max_length": CONTEXT,
            "padding_side": "left",
            "clean_up_tokenization_spaces": False,
            "extra_special_tokens": roles,
            **roles,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE + "\n", encoding="utf-8")
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "GotOcr2ImageProcessor",
            **RESIZE,
            "crop_to_patches": True,
            "min_patches": 1,
            "max_patches": scenes.TILES_MAX,
        },
    )
    write_json(
        folder / "video_preprocessor_config.json",
        {"video_processor_type": "InternVLVideoProcessor", **RESIZE},
    )
    write_json(
        folder / "processor_config.json",
        {"processor_class": "InternVLProcessor", "image_seq_length": TILE_TOKENS},
    )
    write_json(folder / "config.json", CONFIG)
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": ID[BEGIN],
            "eos_token_id": ID[END],
            "pad_token_id": ID[PAD],
            "do_sample": False,
            "max_new_tokens": 96,
        },
    )


def load_weights(folder: pathlib.Path) -> dict:
    """The weights of a saved folder under the model's own names, in f32."""
    from safetensors.torch import load_file

    weights = {}
    for name, tensor in load_file(str(folder / "model.safetensors")).items():
        name = "model." + name.replace("language_model.model.", "language_model.", 1)
        weights[name] = tensor.float()
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"]
    return weights


def save_weights(model, folder: pathlib.Path) -> None:
    """Weights in bf16 under the names of published InternVL folders; the tied head is left out."""
    import torch
    from safetensors.torch import save_file

    weights = {}
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            name = name.removeprefix("model.").replace(
                "language_model.", "language_model.model.", 1
            )
            weights[name] = tensor.detach().to(torch.bfloat16).cpu().contiguous()
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
