"""The table of golden vision-language models: config.json and preprocessor_config.json, tiny, each
odd in its own way, and what the pictures of each case are."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Picture:
    """What stands for a picture in the prompt, and the tiles that the tower sees."""

    tiles: list[tuple[int, int, int]]  # frames, rows, columns of patches
    rows: int
    width: int = 0
    height: int = 0
    tile_rows: int = 1
    tile_columns: int = 1
    overview: int = -1
    rope: tuple[int, int, int] = (0, 0, 0)
    aspect: int = 0
    tokens: int = 0  # in the prompt; 0: one for each row
    shown: int = 0  # rows that are not filling; 0: all


@dataclasses.dataclass(frozen=True)
class Spec:
    name: str
    about: str
    config: dict
    processor: dict
    image_token: int
    cases: list[list[Picture]]  # the pictures of each case; the first has none
    inputs: Callable  # (spec, tiles as arrays by picture, pictures) -> keyword arguments of the model
    patch_values: int
    # The published name of a tensor of the reference; several that share one are stored as one,
    # taken apart by `split` (published tensor, names of the reference) -> tensors.
    publish: Callable = lambda name: name
    split: Callable | None = None
    reference_config: dict | None = None  # where the published one is not transformers' own
    files: dict = dataclasses.field(default_factory=dict)  # others of the folder
    reference: str = ""  # a module of this folder, where transformers has no implementation


def llama_text(**changes) -> dict:
    return {"model_type": "llama", "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, **changes}


def clip_vision(**changes) -> dict:
    return {"model_type": "clip_vision_model", "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 16, "patch_size": 4,
            "projection_dim": 24, "vocab_size": 1000, **changes}


CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 16},
        "crop_size": {"height": 16, "width": 16}, "do_resize": True, "do_center_crop": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3}


def square_tiles(spec: Spec, tiles: list, pictures: list):
    """Each tile's patches laid out as channels x height x width again."""
    import torch
    out = []
    for patches, (frames, rows, columns) in tiles:
        side = round((patches.shape[1] / 3) ** 0.5)
        x = patches.reshape(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4)
        out.append(x.reshape(3, rows * side, columns * side))
    return torch.stack(out) if out else None


def llava_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    return {"pixel_values": square_tiles(spec, tiles, pictures)} if tiles else {}


def llava_next_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    import torch
    if not tiles:
        return {}
    flat, at, stacked = square_tiles(spec, tiles, pictures), 0, []
    most = max(len(p.tiles) for p in pictures)
    for picture in pictures:
        part = flat[at:at + len(picture.tiles)]
        at += len(picture.tiles)
        stacked.append(torch.nn.functional.pad(part, (0, 0, 0, 0, 0, 0, 0, most - len(part))))
    return {"pixel_values": torch.stack(stacked),
            "image_sizes": torch.tensor([[p.height, p.width] for p in pictures])}


def llava(**changes) -> dict:
    return {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
            "image_token_index": 3, "ignore_index": -100, "projector_hidden_act": "gelu",
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
            "text_config": llama_text(), "vision_config": clip_vision(),
            "tie_word_embeddings": False, "torch_dtype": "float32", **changes}


TILE = (1, 4, 4)
PLAIN = Picture([TILE], 16)


def next_picture(width: int, height: int, rows: int, columns: int) -> Picture:
    """`rows` x `columns` tiles beside the overview, what is left of them unpadded."""
    high, wide = 4 * rows, 4 * columns
    if width / height > wide / high:
        high -= (high - int(round(height * (wide / width), 7))) // 2 * 2
    else:
        wide -= (wide - int(round(width * (high / height), 7))) // 2 * 2
    return Picture([TILE] * (1 + rows * columns), 16 + high * (wide + 1), width, height, rows,
                   columns, 0)


LLAVA = [
    Spec("llava", "LLaVA-1.5: the last layer but one, without the class token",
         llava(), CLIP, 3, [[], [PLAIN], [PLAIN, PLAIN]], llava_inputs, 48),
    Spec("llava-layers", "several feature layers side by side, class token kept, SigLIP's order of "
         "norms apart: what VIP-LLaVA-like checkpoints ask for",
         llava(vision_feature_layer=[-3, -1, 1], vision_feature_select_strategy="full",
               projector_hidden_act="gelu_pytorch_tanh", multimodal_projector_bias=False,
               text_config=llama_text(num_hidden_layers=1)),
         CLIP, 3, [[], [Picture([TILE], 17)]], llava_inputs, 48),
    Spec("llava-siglip", "a SigLIP tower: no class token, biased patches, Qwen2's text",
         llava(vision_feature_layer=-2, vision_feature_select_strategy="full",
               vision_config={"model_type": "siglip_vision_model", "hidden_size": 24,
                              "intermediate_size": 40, "num_hidden_layers": 2,
                              "num_attention_heads": 2, "image_size": 16, "patch_size": 4,
                              "vision_use_head": False},
               text_config={"model_type": "qwen2", "vocab_size": 120, "hidden_size": 32,
                            "intermediate_size": 48, "num_hidden_layers": 2,
                            "num_attention_heads": 4, "num_key_value_heads": 4,
                            "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
                            "eos_token_id": 2, "bos_token_id": 1, "use_sliding_window": False}),
         CLIP, 3, [[], [PLAIN]], llava_inputs, 48),
    Spec("llava-next", "1.6: tiles joined to one grid, unpadded, with row ends",
         {**llava(), "architectures": ["LlavaNextForConditionalGeneration"],
          "model_type": "llava_next",
          "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32], [48, 16]]},
         {**CLIP, "image_processor_type": "LlavaNextImageProcessor",
          "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32], [48, 16]]}, 3,
         [[], [next_picture(40, 30, 2, 2)],
          [next_picture(17, 40, 3, 1), next_picture(40, 20, 1, 2)]],
         llava_next_inputs, 48),
]

def internvl_vision(**changes) -> dict:
    return {"model_type": "internvl_vision", "hidden_size": 24, "intermediate_size": 40,
            "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": [16, 16],
            "patch_size": [4, 4], "attention_bias": True, "use_qk_norm": False,
            "norm_type": "layer_norm", "layer_norm_eps": 1e-6, "use_mean_pooling": True,
            "layer_scale_init_value": 0.1, "use_absolute_position_embeddings": True, **changes}


def qwen2_text(**changes) -> dict:
    return {"model_type": "qwen2", "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
            "use_sliding_window": False, "eos_token_id": 2, "bos_token_id": 1, **changes}


def internvl(**changes) -> dict:
    return {"architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl",
            "image_token_id": 3, "downsample_ratio": 0.5, "projector_hidden_act": "gelu",
            "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
            "image_seq_length": 4, "text_config": qwen2_text(),
            "vision_config": internvl_vision(), "torch_dtype": "float32", **changes}


def chat_name(name: str) -> str:
    """The names of InternVL-Chat's own checkpoints."""
    for old, new in (("vision_tower.embeddings.patch_embeddings.projection",
                      "vision_model.embeddings.patch_embedding"),
                     ("vision_tower.embeddings.cls_token",
                      "vision_model.embeddings.class_embedding"),
                     ("vision_tower.embeddings.position_embeddings",
                      "vision_model.embeddings.position_embedding"),
                     ("vision_tower.encoder.layer.", "vision_model.encoder.layers."),
                     ("attention.projection_layer", "attn.proj"),
                     ("attention.q_norm", "attn.q_norm"), ("attention.k_norm", "attn.k_norm"),
                     ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
                     ("lambda_1", "ls1"), ("lambda_2", "ls2"),
                     ("multi_modal_projector.layer_norm", "mlp1.0"),
                     ("multi_modal_projector.linear_1", "mlp1.1"),
                     ("multi_modal_projector.linear_2", "mlp1.3")):
        name = name.replace(old, new)
    for part in ("q_proj", "k_proj", "v_proj"):
        name = name.replace("attention." + part, "attn.qkv")
    return name


def chat_config(llm: dict, **vision) -> dict:
    return {"architectures": ["InternVLChatModel"], "model_type": "internvl_chat",
            "downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1,
            "force_image_size": 16, "dynamic_image_size": True, "use_thumbnail": True,
            "max_dynamic_patch": 6, "template": "internlm2-chat", "torch_dtype": "float32",
            "llm_config": llm,
            "vision_config": {"model_type": "intern_vit_6b", "hidden_size": 24,
                              "intermediate_size": 40, "num_hidden_layers": 2,
                              "num_attention_heads": 3, "image_size": 16, "patch_size": 4,
                              "qkv_bias": True, "qk_normalization": False,
                              "norm_type": "layer_norm", "hidden_act": "gelu",
                              "layer_norm_eps": 1e-6, **vision}}


def internlm_name(name: str) -> str:
    """InternLM2's names, as in InternVL-Chat 1.5 and most of InternVL 2."""
    name = chat_name(name)
    for part in ("q_proj", "k_proj", "v_proj"):
        name = name.replace("self_attn." + part, "attention.wqkv")
    for old, new in (("self_attn.o_proj", "attention.wo"), ("mlp.gate_proj", "feed_forward.w1"),
                     ("mlp.up_proj", "feed_forward.w3"), ("mlp.down_proj", "feed_forward.w2"),
                     ("input_layernorm", "attention_norm"),
                     ("post_attention_layernorm", "ffn_norm"),
                     ("embed_tokens", "tok_embeddings"), ("lm_head", "output")):
        name = name.replace(old, new)
    return name


def internlm_split(stored, parts: list[str]) -> dict:
    """q, k and v of the reference: one behind the other in the tower, by key head in the text."""
    if "vision" in parts[0]:
        return dict(zip(parts, (t.contiguous() for t in stored.chunk(3))))
    heads = stored.view(2, 4, 8, -1)  # 2 key heads, each with 2 queries, its key and its value
    cut = (heads[:, :2], heads[:, 2], heads[:, 3])
    return dict(zip(parts, (t.reshape(-1, stored.shape[-1]).contiguous() for t in cut)))


INTERN_TILE = Picture([TILE], 4)
INTERN_TILES = Picture([TILE] * 3, 12, 40, 20, 1, 2, 2)
INTERN_CASES = [[], [INTERN_TILES], [INTERN_TILE, INTERN_TILES]]
INTERN = {"image_processor_type": "GotOcr2ImageProcessor", "size": {"height": 16, "width": 16},
          "crop_to_patches": True, "min_patches": 1, "max_patches": 6,
          "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3}

INTERNVL = [
    Spec("internvl", "tiles and a thumbnail, layer scale, pixel shuffle", internvl(), INTERN, 3,
         INTERN_CASES, llava_inputs, 48),
    Spec("internvl-qk-norm", "InternViT-6B's shape: RMS norms, norms of q and k, no bias; llama",
         internvl(vision_config=internvl_vision(attention_bias=False, use_qk_norm=True,
                                                norm_type="rms_norm", num_attention_heads=4),
                  text_config=llama_text()),
         INTERN, 3, INTERN_CASES[:2], llava_inputs, 48),
    Spec("internvl-resampled", "tiles of another grid than the table of positions: bicubic",
         internvl(vision_config=internvl_vision(image_size=[24, 24])), INTERN, 3,
         INTERN_CASES[:2], llava_inputs, 48),
    Spec("internvl-chat", "the original layout of checkpoints, Qwen2 inside",
         chat_config({**qwen2_text(), "architectures": ["Qwen2ForCausalLM"]}), INTERN, 3,
         INTERN_CASES[:2], llava_inputs, 48, publish=chat_name, reference_config=internvl(),
         files={"added_tokens.json": {"<IMG_CONTEXT>": 3}}),
    Spec("internvl-chat-internlm2", "the original layout with InternLM2 inside",
         chat_config({**llama_text(), "model_type": "internlm2",
                      "architectures": ["InternLM2ForCausalLM"], "bias": False}), INTERN, 3,
         INTERN_CASES[:2], llava_inputs, 48, publish=internlm_name, split=internlm_split,
         reference_config=internvl(text_config=llama_text()),
         files={"tokenizer_config.json": {
             "added_tokens_decoder": {"3": {"content": "<IMG_CONTEXT>"}}}}),
]


def qwen_picture(rows: int, columns: int, frames: int = 1) -> Picture:
    """`rows` x `columns` merged patches."""
    return Picture([(frames, 2 * rows, 2 * columns)], frames * rows * columns, 0, 0,
                   rope=(frames, rows, columns))


def qwen_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    import torch
    if not tiles:
        return {}
    return {"pixel_values": torch.cat([patches for patches, _ in tiles]),
            "image_grid_thw": torch.tensor([grid for _, grid in tiles]),
            "mm_token_type_ids": True}


QWEN_ROPE = {"type": "mrope", "mrope_section": [1, 1, 2]}
QWEN = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 4, "merge_size": 2,
        "temporal_patch_size": 2, "min_pixels": 64, "max_pixels": 4096,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711]}
QWEN_CASES = [[], [qwen_picture(3, 2)], [qwen_picture(1, 4), qwen_picture(3, 5)]]

QWENS = [
    Spec("qwen2-vl", "config.json as published: the language model's fields lie flat",
         {**qwen2_text(), "architectures": ["Qwen2VLForConditionalGeneration"],
          "model_type": "qwen2_vl", "image_token_id": 3, "video_token_id": 5,
          "vision_start_token_id": 6, "vision_end_token_id": 7, "rope_scaling": QWEN_ROPE,
          "tie_word_embeddings": False, "torch_dtype": "float32",
          "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2,
                            "num_heads": 4, "in_chans": 3, "patch_size": 4,
                            "spatial_merge_size": 2, "spatial_patch_size": 4,
                            "temporal_patch_size": 2}},
         QWEN, 3, QWEN_CASES, qwen_inputs, 96),
    Spec("qwen2-5-vl", "window attention in all layers but one, windows that the grid does not fill",
         {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
          "image_token_id": 3, "video_token_id": 5, "vision_start_token_id": 6,
          "vision_end_token_id": 7, "tie_word_embeddings": True, "torch_dtype": "float32",
          "text_config": {**qwen2_text(), "model_type": "qwen2_5_vl_text",
                          "rope_scaling": QWEN_ROPE, "tie_word_embeddings": True},
          "vision_config": {"model_type": "qwen2_5_vl", "depth": 3, "hidden_size": 32,
                            "intermediate_size": 44, "num_heads": 2, "in_chans": 3,
                            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
                            "window_size": 16, "fullatt_block_indexes": [1],
                            "out_hidden_size": 32, "tokens_per_second": 2}},
         QWEN, 3, QWEN_CASES, qwen_inputs, 96),
]

def gemma3_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    return {**llava_inputs(spec, tiles, pictures), "token_type_ids": True} if tiles else {}


GEMMA3 = [
    Spec("gemma3", "pooled rows that see one another both ways; a window shorter than the prompt, "
         "two ropes, the newer layout of names",
         {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
          "image_token_index": 3, "mm_tokens_per_image": 4, "boi_token_index": 5,
          "eoi_token_index": 6, "torch_dtype": "float32",
          "text_config": {"model_type": "gemma3_text", "vocab_size": 120, "hidden_size": 32,
                          "intermediate_size": 48, "num_hidden_layers": 3,
                          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
                          "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
                          "sliding_window": 9, "query_pre_attn_scalar": 8,
                          "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                          "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
                          "sliding_window_pattern": 2},
          "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 24,
                            "intermediate_size": 40, "num_hidden_layers": 2,
                            "num_attention_heads": 3, "image_size": 16, "patch_size": 4,
                            "vision_use_head": False}},
         {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 16, "width": 16},
          "do_resize": True, "resample": 2, "image_seq_length": 4, "do_pan_and_scan": None,
          "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}, 3,
         [[], [Picture([TILE], 4)], [Picture([TILE], 4), Picture([TILE], 4)]],
         gemma3_inputs, 48),
]


def idefics3_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    return {"pixel_values": square_tiles(spec, tiles, pictures)[None]} if tiles else {}


IDEFICS3 = [
    Spec("idefics3", "tiles and the whole picture, positions by buckets, blocks of 2 x 2",
         {"architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3",
          "image_token_id": 3, "scale_factor": 2, "tie_word_embeddings": False,
          "torch_dtype": "float32", "text_config": llama_text(pad_token_id=0),
          "vision_config": {"model_type": "idefics3_vision", "hidden_size": 24,
                            "intermediate_size": 40, "num_hidden_layers": 2,
                            "num_attention_heads": 3, "image_size": 24, "patch_size": 4,
                            "max_image_size": {"longest_edge": 24},
                            "size": {"longest_edge": 48}}},
         {"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 48},
          "max_image_size": {"longest_edge": 24}, "do_image_splitting": True,
          "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 1}, 3,
         [[], [Picture([(1, 6, 6)] * 3, 27, 40, 20, 1, 2, 2)],
          [Picture([(1, 6, 6)], 9), Picture([(1, 6, 6)] * 3, 27, 20, 40, 2, 1, 2)]],
         idefics3_inputs, 48),
]


def pixtral_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    import torch
    if not tiles:
        return {}
    images = [square_tiles(spec, [tile], pictures)[0] for tile in tiles]
    sizes = [list(image.shape[1:]) for image in images]
    high, wide = max(s[0] for s in sizes), max(s[1] for s in sizes)
    padded = [torch.nn.functional.pad(i, (0, wide - i.shape[2], 0, high - i.shape[1]))
              for i in images]
    return {"pixel_values": torch.stack(padded), "image_sizes": torch.tensor(sizes)}


PIXTRAL = [
    Spec("pixtral", "pictures of any size, rotations over rows and columns; Mistral's text",
         {**llava(image_token_index=3, vision_feature_layer=-1,
                  vision_feature_select_strategy="full",
                  text_config={**llama_text(), "model_type": "mistral", "head_dim": 12,
                               "sliding_window": None},
                  vision_config={"model_type": "pixtral", "hidden_size": 24,
                                 "intermediate_size": 40, "num_hidden_layers": 2,
                                 "num_attention_heads": 3, "image_size": 32, "patch_size": 4,
                                 "rope_theta": 10000.0, "hidden_act": "silu"})},
         {"image_processor_type": "PixtralImageProcessor", "size": {"longest_edge": 32},
          "patch_size": {"height": 4, "width": 4}, "resample": 3,
          "image_mean": [0.48145466, 0.4578275, 0.40821073],
          "image_std": [0.26862954, 0.26130258, 0.27577711]}, 3,
         [[], [Picture([(1, 3, 5)], 15)], [Picture([(1, 6, 2)], 12), Picture([(1, 2, 3)], 6)]],
         pixtral_inputs, 48),
]

def own_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    """For the references of this folder, which take patches as the tower does."""
    return {"tiles": tiles} if tiles else {}


OWN = [
    Spec("minicpmv", "slices of other grids than the table's, a perceiver that makes 4 rows of each",
         {**qwen2_text(hidden_size=32), "architectures": ["MiniCPMV"], "model_type": "minicpmv",
          "version": 2.6, "query_num": 4, "tie_word_embeddings": False, "torch_dtype": "float32",
          "vision_config": {"model_type": "siglip", "hidden_size": 24, "intermediate_size": 40,
                            "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 24,
                            "patch_size": 4}},
         {"image_processor_type": "MiniCPMVImageProcessor", "max_slice_nums": 9,
          "scale_resolution": 24, "patch_size": 4, "image_feature_size": 4, "slice_mode": True,
          "use_image_id": True, "norm_mean": [0.5, 0.5, 0.5], "norm_std": [0.5, 0.5, 0.5],
          "version": 2.6}, 3,
         [[], [Picture([(1, 6, 6)], 4)],
          [Picture([(1, 3, 8), (1, 5, 4), (1, 5, 4)], 12), Picture([(1, 7, 2)], 4)]],
         own_inputs, 48, reference="reference_minicpmv",
         files={"added_tokens.json": {"<unk>": 3}}),
    Spec("cogvlm2", "visual experts, one position for a picture's rows, post-normed tower",
         {"architectures": ["CogVLMForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
          "num_attention_heads": 4, "num_multi_query_heads": 2, "num_hidden_layers": 2,
          "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "vocab_size": 120,
          "pad_token_id": 3, "hidden_act": "silu", "tie_word_embeddings": False,
          "torch_dtype": "float32", "template_version": "chat",
          "vision_config": {"hidden_act": "gelu", "in_channels": 3, "num_hidden_layers": 2,
                            "hidden_size": 24, "patch_size": 4, "num_heads": 3,
                            "intermediate_size": 40, "layer_norm_eps": 1e-6,
                            "num_positions": 17, "image_size": 16}},
         {"image_processor_type": "CogVLM2ImageProcessor"}, 3,
         [[], [Picture([TILE], 6)]], own_inputs, 48, reference="reference_cogvlm2"),
]

def mllama_inputs(spec: Spec, tiles: list, pictures: list) -> dict:
    import torch
    if not tiles:
        return {}
    most, images = 4, []
    for (patches, (frames, rows, columns)) in tiles:
        area = rows * columns
        cut = [square_tiles(spec, [(patches[f * area:(f + 1) * area], (1, rows, columns))], None)
               for f in range(frames)]
        image = torch.cat(cut)
        images.append(torch.nn.functional.pad(image, (0, 0, 0, 0, 0, 0, 0, most - frames)))
    mask = [[int(f < p.tiles[0][0]) for f in range(most)] for p in pictures]
    return {"pixel_values": torch.stack(images)[None],
            "aspect_ratio_ids": torch.tensor([[p.aspect for p in pictures]]),
            "aspect_ratio_mask": torch.tensor([mask]),
            "cross_attention_mask": [p.tiles[0][0] for p in pictures]}


def mllama_picture(tiles: int, aspect: int) -> Picture:
    return Picture([(tiles, 4, 4)], 17 * 4, aspect=aspect, tokens=1, shown=17 * tiles)


RATIOS = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
MLLAMA = [
    Spec("mllama", "cross-attention to tiles that see one another, empty ones included",
         {"architectures": ["MllamaForConditionalGeneration"], "model_type": "mllama",
          "image_token_index": 120, "torch_dtype": "float32",
          "text_config": {"model_type": "mllama_text_model", "vocab_size": 120, "hidden_size": 32,
                          "intermediate_size": 48, "num_hidden_layers": 4,
                          "num_attention_heads": 4, "num_key_value_heads": 2,
                          "cross_attention_layers": [1, 3], "max_position_embeddings": 512,
                          "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                          "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                                           "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                           "original_max_position_embeddings": 64},
                          "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
                          "pad_token_id": 0},
          "vision_config": {"model_type": "mllama_vision_model", "hidden_size": 24,
                            "intermediate_size": 40, "num_hidden_layers": 3,
                            "num_global_layers": 2, "attention_heads": 3, "image_size": 16,
                            "patch_size": 4, "max_num_tiles": 4, "num_channels": 3,
                            "intermediate_layers_indices": [0, 2], "vision_output_dim": 72,
                            "supported_aspect_ratios": RATIOS}},
         {"image_processor_type": "MllamaImageProcessor", "max_image_tiles": 4,
          "size": {"height": 16, "width": 16}, "do_pad": True, "resample": 2,
          "image_mean": [0.48145466, 0.4578275, 0.40821073],
          "image_std": [0.26862954, 0.26130258, 0.27577711]}, 120,
         [[], [mllama_picture(3, 3)], [mllama_picture(1, 1), mllama_picture(4, 6)]],
         mllama_inputs, 48),
]

ALL = [*MLLAMA, *LLAVA, *INTERNVL, *QWENS, *GEMMA3, *IDEFICS3, *PIXTRAL, *OWN]
