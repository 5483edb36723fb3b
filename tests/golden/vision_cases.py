"""The processors of vision.py: settings as a model folder has them, and how to run the reference.

A case has `files` (what a folder would hold), `make(backend)` (an image processor of transformers),
`run(processor, picture)` (patches in the tower's order, the prompt, and what the layout must say).
"""

import random

import numpy
from transformers.models.clip import image_processing_clip, image_processing_pil_clip
from transformers.models.got_ocr2 import image_processing_got_ocr2, image_processing_pil_got_ocr2
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava import image_processing_llava, image_processing_pil_llava
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.llava_next import image_processing_llava_next, image_processing_pil_llava_next
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl, image_processing_qwen2_vl
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5]

_draw = random.Random(6)
# Sizes whose token counts are compared: ordinary, odd, extreme.
COUNTED = [[1275, 1650], [1650, 1275], [640, 480], [1, 1], [1, 300], [4000, 20], [336, 336],
           [1920, 1080], [1080, 1920], [448, 448], [449, 447], [28, 28]] + [
    [_draw.randint(1, 4000), _draw.randint(1, 4000)] for _ in range(60)] + [
    [_draw.randint(20, 900), _draw.randint(20, 900)] for _ in range(60)]


def bare(kind, **attributes):
    """A processor without its tokenizer: enough for replace_image_token."""
    out = object.__new__(kind)
    for name, value in attributes.items():
        object.__setattr__(out, name, value)
    return out


def as_patches(pixels, side):
    pixels = numpy.asarray(pixels)
    tiles, _, height, width = pixels.shape
    cut = pixels.reshape(tiles, 3, height // side, side, width // side, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * side * side)


def maker(pil, torch, settings):
    return lambda backend: (pil if backend == "pil" else torch)(**settings)


def clip_case(name, settings, side, edge, strategy="default", pil=None, torch=None, **extra):
    files = {"config.json": {"model_type": "llava", "vision_feature_select_strategy": strategy,
                             "vision_config": {"model_type": "clip_vision_model", "image_size": edge,
                                               "patch_size": side}},
             "preprocessor_config.json": settings,
             "processor_config.json": {"patch_size": side, "num_additional_image_tokens": 1,
                                       "vision_feature_select_strategy": strategy}}

    def run(processor, picture):
        values = processor(picture, return_tensors="np")["pixel_values"]
        text = bare(LlavaProcessor, image_token="<image>", patch_size=side,
                    num_additional_image_tokens=1, vision_feature_select_strategy=strategy)
        return {"patches": as_patches(values, side),
                "prompt": text.replace_image_token({"pixel_values": values}, 0)}

    return {"name": name, "files": files, "side": side, "normal": (CLIP_MEAN, CLIP_STD),
            "token": "<image>", "run": run,
            "make": maker(pil or image_processing_pil_clip.CLIPImageProcessorPil,
                          torch or image_processing_clip.CLIPImageProcessor, settings), **extra}


def llava_cases():
    plain = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    yield clip_case("llava-1.5", plain, 14, 336,
                    sizes=[[640, 480], [480, 640], [336, 336], [100, 37], [1275, 1650], [3, 500]])
    small = {"size": {"shortest_edge": 30}, "crop_size": {"height": 56, "width": 56}, "resample": 2}
    yield clip_case("llava-crop-beyond", small, 14, 56, "full",
                    sizes=[[64, 48], [200, 31], [30, 30]])
    square = {"size": {"height": 28, "width": 42}, "crop_size": {"height": 28, "width": 42}}
    yield clip_case("llava-stretched", square, 14, 28, sizes=[[64, 48], [48, 64]])
    padded = {"do_pad": True, "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    yield clip_case("llava-padded", padded, 14, 224,
                    pil=image_processing_pil_llava.LlavaImageProcessorPil,
                    torch=image_processing_llava.LlavaImageProcessor,
                    sizes=[[300, 201], [201, 300], [224, 224]])


def llava_next_case(name, pinpoints, edge, side, sizes):
    settings = {"size": {"shortest_edge": edge}, "crop_size": {"height": edge, "width": edge},
                "image_grid_pinpoints": pinpoints}
    files = {"config.json": {"model_type": "llava_next", "image_grid_pinpoints": pinpoints,
                             "vision_config": {"model_type": "clip_vision_model",
                                               "image_size": edge, "patch_size": side}},
             "preprocessor_config.json": settings,
             "processor_config.json": {"patch_size": side, "num_additional_image_tokens": 1,
                                       "vision_feature_select_strategy": "default"}}

    def text(processor):
        return bare(LlavaNextProcessor, image_token="<image>", patch_size=side,
                    num_additional_image_tokens=1, vision_feature_select_strategy="default",
                    image_processor=processor)

    def run(processor, picture):
        out = processor(picture, return_tensors="np")
        tiles = out["pixel_values"][0]
        return {"patches": as_patches(tiles, side), "tiles": len(tiles),
                "prompt": text(processor).replace_image_token(out, 0)}

    def count(processor, size):
        rows = text(processor)._get_number_of_features(size[1], size[0], edge, edge) - 1
        return [rows]

    return {"name": name, "files": files, "side": side, "normal": (CLIP_MEAN, CLIP_STD),
            "token": "<image>", "run": run, "sizes": sizes, "count": count,
            "make": maker(image_processing_pil_llava_next.LlavaNextImageProcessorPil,
                          image_processing_llava_next.LlavaNextImageProcessor, settings)}


def llava_next_cases():
    grid = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    yield llava_next_case("llava-next", grid, 336, 14,
                          [[640, 480], [1275, 1650], [200, 900], [901, 200], [50, 50], [1500, 40]])
    small = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    yield llava_next_case("llava-next-small", small, 56, 14, [[64, 48], [300, 100], [31, 97]])


def internvl_case(name, edge, side, fewest, most, sizes, normal=(IMAGENET_MEAN, IMAGENET_STD), chat=False):
    rows = (edge // side // 2) ** 2
    settings = {"size": {"height": edge, "width": edge}, "min_patches": fewest, "max_patches": most,
                "image_mean": normal[0], "image_std": normal[1], "crop_to_patches": False}
    if chat:
        files = {"config.json": {"model_type": "internvl_chat", "force_image_size": edge,
                                 "min_dynamic_patch": fewest, "max_dynamic_patch": most,
                                 "dynamic_image_size": True, "use_thumbnail": True,
                                 "downsample_ratio": 0.5,
                                 "vision_config": {"image_size": edge, "patch_size": side}}}
    else:
        files = {"config.json": {"model_type": "internvl", "downsample_ratio": 0.5,
                                 "vision_config": {"image_size": [edge, edge],
                                                   "patch_size": [side, side]}},
                 "preprocessor_config.json": settings,
                 "processor_config.json": {"image_seq_length": rows}}
    text = bare(InternVLProcessor, image_seq_length=rows, start_image_token="<img>",
                end_image_token="</img>", image_token="<IMG_CONTEXT>")

    def run(processor, picture):
        out = processor(picture, crop_to_patches=True, return_tensors="np")
        return {"patches": as_patches(out["pixel_values"], side), "tiles": len(out["pixel_values"]),
                "prompt": text.replace_image_token({"num_patches": [int(out["num_patches"][0])]}, 0)}

    def count(processor, size):
        return [rows * processor.get_number_of_image_patches(size[1], size[0],
                                                             {"crop_to_patches": True})]

    return {"name": name, "files": files, "side": side, "normal": normal, "token": "<IMG_CONTEXT>",
            "run": run, "sizes": sizes, "count": count,
            "make": maker(image_processing_pil_got_ocr2.GotOcr2ImageProcessorPil,
                          image_processing_got_ocr2.GotOcr2ImageProcessor, settings)}


def internvl_cases():
    yield internvl_case("internvl", 448, 14, 1, 12, [[640, 480], [1275, 1650], [448, 448], [90, 30]])
    yield internvl_case("internvl-few", 56, 14, 2, 6, [[64, 48], [300, 100], [31, 97], [56, 56]])
    yield internvl_case("internvl-chat", 56, 14, 1, 12, [[300, 100], [225, 170], [20, 20]], chat=True)


def qwen_case(name, settings, model_type, sizes):
    files = {"config.json": {"model_type": model_type}, "preprocessor_config.json": settings}
    side, merge = settings.get("patch_size", 14), settings.get("merge_size", 2)

    def run(processor, picture):
        out = processor(picture, return_tensors="np")
        text = bare(Qwen2VLProcessor, image_token="<|image_pad|>", image_processor=processor)
        frames, rows, columns = (int(v) for v in out["image_grid_thw"][0])
        return {"patches": out["pixel_values"], "grid": [frames, rows, columns],
                "prompt": text.replace_image_token(out, 0),
                "rope": [frames, rows // merge, columns // merge]}

    def count(processor, size):
        if max(size) / min(size) > 200:
            return [-1]
        return [processor.get_number_of_image_patches(size[1], size[0]) // merge ** 2]

    return {"name": name, "files": files, "side": side, "normal": (CLIP_MEAN, CLIP_STD),
            "token": "<|image_pad|>", "run": run, "sizes": sizes, "count": count,
            "make": maker(image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil,
                          image_processing_qwen2_vl.Qwen2VLImageProcessor, settings)}


def qwen_cases():
    wide = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
            "merge_size": 2}
    yield qwen_case("qwen2-vl", wide, "qwen2_vl", [[640, 480], [42, 70], [1275, 1650], [20, 3000]])
    tight = {"size": {"shortest_edge": 12544, "longest_edge": 50176}, "patch_size": 14}
    yield qwen_case("qwen2.5-vl-tight", tight, "qwen2_5_vl", [[640, 480], [42, 30], [301, 900]])


def cases():
    for group in (llava_cases, llava_next_cases, internvl_cases, qwen_cases):
        yield from group()
