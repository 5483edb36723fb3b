"""The processors of vision.py: settings as a model folder has them, and how to run the reference.

A case has `files` (what a folder would hold), `make(backend)` (an image processor of transformers),
`run(processor, picture)` (patches in the tower's order, the prompt, and what the layout must say).
"""

import math
import random

import numpy
import PIL.Image
from transformers.models.clip import image_processing_clip, image_processing_pil_clip
from transformers.models.gemma3 import image_processing_gemma3, image_processing_pil_gemma3
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.got_ocr2 import image_processing_got_ocr2, image_processing_pil_got_ocr2
from transformers.models.idefics3 import image_processing_idefics3, image_processing_pil_idefics3
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava import image_processing_llava, image_processing_pil_llava
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.llava_next import image_processing_llava_next, image_processing_pil_llava_next
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.mllama import image_processing_mllama, image_processing_pil_mllama
from transformers.models.pixtral import image_processing_pil_pixtral, image_processing_pixtral
from transformers.models.pixtral.processing_pixtral import PixtralProcessor
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


def gemma_case(name, settings, sizes, edge, side):
    files = {"config.json": {"model_type": "gemma3", "mm_tokens_per_image": 16,
                             "vision_config": {"patch_size": side, "image_size": edge}},
             "preprocessor_config.json": settings, "processor_config.json": {"image_seq_length": 16}}
    one = "\n\n<start_of_image>" + "<image_soft_token>" * 16 + "<end_of_image>\n\n"

    def run(processor, picture):
        out = processor(picture, return_tensors="np")
        text = bare(Gemma3Processor, full_image_sequence=one)
        return {"patches": as_patches(out["pixel_values"], side), "tiles": len(out["pixel_values"]),
                "prompt": text.replace_image_token(out, 0)}

    return {"name": name, "files": files, "side": side, "normal": (HALF, HALF),
            "token": "<image_soft_token>", "run": run, "sizes": sizes,
            "make": maker(image_processing_pil_gemma3.Gemma3ImageProcessorPil,
                          image_processing_gemma3.Gemma3ImageProcessor, settings)}


def gemma_cases():
    plain = {"size": {"height": 56, "width": 56}, "resample": 2, "do_pan_and_scan": None}
    yield gemma_case("gemma3", plain, [[640, 480], [30, 400]], 56, 14)
    pan = {"size": {"height": 56, "width": 56}, "resample": 2, "do_pan_and_scan": True,
           "pan_and_scan_min_crop_size": 64, "pan_and_scan_max_num_crops": 4,
           "pan_and_scan_min_ratio_to_activate": 1.2}
    yield gemma_case("gemma3-pan", pan, [[640, 480], [480, 640], [300, 299], [1000, 100], [90, 300],
                                         [200, 401], [60, 300]], 56, 14)


def idefics_case(name, settings, sizes, tile, side, scale, kind="idefics3"):
    rows = (tile // side) ** 2 // scale ** 2
    files = {"config.json": {"model_type": kind, "scale_factor": scale,
                             "vision_config": {"patch_size": side, "image_size": tile}},
             "preprocessor_config.json": settings, "processor_config.json": {"image_seq_len": rows}}

    def run(processor, picture):
        out = processor([[picture]], return_tensors="np", return_row_col_info=True)
        text = bare(Idefics3Processor, fake_image_token="<fake_token_around_image>",
                    global_image_tag="<global-img>", image_token="<image>", image_seq_len=rows)
        return {"patches": as_patches(out["pixel_values"][0], side),
                "tiles": len(out["pixel_values"][0]), "prompt": text.replace_image_token(out, 0)}

    def count(processor, size):
        return [rows * max(1, processor.get_number_of_image_patches(size[1], size[0])[0])]

    out = {"name": name, "files": files, "side": side, "normal": (HALF, HALF), "token": "<image>",
           "run": run, "sizes": sizes,
           "make": maker(image_processing_pil_idefics3.Idefics3ImageProcessorPil,
                         image_processing_idefics3.Idefics3ImageProcessor, settings)}
    if settings.get("do_image_splitting", True):
        out["count"] = count
    return out


def idefics_cases():
    yield idefics_case("idefics3", {"size": {"longest_edge": 4 * 364}, "resample": 1,
                                    "max_image_size": {"longest_edge": 364}},
                       [[640, 480], [300, 1000], [50, 50]], 364, 14, 2)
    yield idefics_case("smolvlm", {"size": {"longest_edge": 4 * 64}, "resample": 1,
                                   "max_image_size": {"longest_edge": 64}},
                       [[64, 48], [300, 1000], [50, 3], [257, 255]], 64, 16, 2, "smolvlm")
    yield idefics_case("idefics3-whole", {"size": {"longest_edge": 128}, "do_image_splitting": False,
                                          "max_image_size": {"longest_edge": 64}},
                       [[100, 80], [30, 90]], 64, 16, 2)


def pixtral_case(name, settings, sizes, side, merge, model_type):
    vision = {"patch_size": side, "model_type": "pixtral"}
    files = {"config.json": {"model_type": model_type, "spatial_merge_size": merge, "vision_config": vision},
             "preprocessor_config.json": settings,
             "processor_config.json": {"patch_size": side, "spatial_merge_size": merge}}

    def text(processor):
        return bare(PixtralProcessor, image_token="[IMG]", image_break_token="[IMG_BREAK]",
                    image_end_token="[IMG_END]", patch_size=side, spatial_merge_size=merge,
                    image_processor=processor)

    def run(processor, picture):
        out = processor(picture, return_tensors="np", patch_size=side * merge)
        return {"patches": as_patches(out["pixel_values"], side),
                "prompt": text(processor).replace_image_token(out, 0)}

    def count(processor, size):
        edge = settings["size"]["longest_edge"]
        ratio = max(size[0] / edge, size[1] / edge, 1)
        width, height = (int(v / ratio) if ratio > 1 else v for v in size)
        block = side * merge
        return [((width - 1) // block + 1) * ((height - 1) // block + 1) if min(width, height) else -1]

    return {"name": name, "files": files, "side": side, "normal": (CLIP_MEAN, CLIP_STD),
            "token": "[IMG]", "run": run, "sizes": sizes, "count": count,
            "make": maker(image_processing_pil_pixtral.PixtralImageProcessorPil,
                          image_processing_pixtral.PixtralImageProcessor, settings)}


def pixtral_cases():
    yield pixtral_case("pixtral", {"size": {"longest_edge": 1024}, "patch_size": {"height": 16, "width": 16}},
                       [[640, 480], [1275, 1650], [5, 33]], 16, 1, "llava")
    yield pixtral_case("mistral3", {"size": {"longest_edge": 280}, "patch_size": {"height": 14, "width": 14}},
                       [[640, 480], [100, 30]], 14, 2, "mistral3")


def mllama_case(name, edge, side, most, sizes):
    settings = {"size": {"height": edge, "width": edge}, "max_image_tiles": most, "resample": 2}
    files = {"config.json": {"model_type": "mllama", "vision_config": {"patch_size": side}},
             "preprocessor_config.json": settings}

    def run(processor, picture):
        out = processor([[picture]], return_tensors="np")
        tiles = int(out["num_tiles"][0][0])
        return {"patches": as_patches(out["pixel_values"][0][0][:tiles], side), "tiles": tiles,
                "aspect": int(out["aspect_ratio_ids"][0][0]), "prompt": "<|image|>",
                "rows": tiles * ((edge // side) ** 2 + 1)}

    return {"name": name, "files": files, "side": side, "normal": (HALF, HALF), "token": "<|image|>",
            "run": run, "sizes": sizes,
            "make": maker(image_processing_pil_mllama.MllamaImageProcessorPil,
                          image_processing_mllama.MllamaImageProcessor, settings)}


def mllama_cases():
    yield mllama_case("mllama", 560, 14, 4, [[640, 480], [1275, 1650]])
    yield mllama_case("mllama-small", 56, 14, 4, [[20, 30], [56, 56], [57, 56], [200, 40], [40, 200],
                                                 [112, 112], [113, 90], [500, 500], [60, 170], [3, 300]])


class PublishedMiniCpmV:
    """MiniCPM-V 2.6's slicing, from its published description (transformers has no class for it): one
    picture near 448 x 448, and slices in the grid whose proportions are the nearest in logarithm."""

    def __init__(self, max_slice_nums=9, scale_resolution=448, patch_size=14):
        self.most, self.side, self.patch = max_slice_nums, scale_resolution, patch_size

    def multiple(self, length, of):
        return max(round(length / of) * of, of)

    def best(self, width, height, grow):
        if width * height > self.side ** 2 or grow:
            ratio = width / height
            height = int(self.side / math.sqrt(ratio))
            width = int(height * ratio)
        return self.multiple(width, self.patch), self.multiple(height, self.patch)

    def grid(self, width, height):
        count = min(math.ceil(width * height / self.side ** 2), self.most)
        if count <= 1:
            return None
        grids = [(m, n // m) for n in (count - 1, count, count + 1) if n != 1 and n <= self.most
                 for m in range(1, n + 1) if n % m == 0]
        return min(grids, key=lambda g: abs(math.log(width / height) - math.log(g[0] / g[1])),
                   default=(1, 1))

    def tiles(self, picture):
        width, height = picture.size
        grid = self.grid(width, height)
        bicubic = PIL.Image.Resampling.BICUBIC
        out = [picture.resize(self.best(width, height, grid is None), bicubic)]
        if grid:
            across, down = grid
            cell = self.best(self.multiple(width, across) / across,
                             self.multiple(height, down) / down, True)
            large = picture.resize((cell[0] * across, cell[1] * down), bicubic)
            out += [large.crop((x * cell[0], y * cell[1], (x + 1) * cell[0], (y + 1) * cell[1]))
                    for y in range(down) for x in range(across)]
        return grid, out


def minicpm_case(name, settings, sizes):
    side = settings["patch_size"]
    files = {"config.json": {"model_type": "minicpmv", "query_num": 64},
             "preprocessor_config.json": {**settings, "image_feature_size": 64, "use_image_id": True,
                                          "slice_mode": True, "norm_mean": HALF, "norm_std": HALF}}
    cells = "<unk>" * 64

    def run(processor, picture):
        grid, tiles = processor.tiles(picture)
        patches = [as_patches((numpy.asarray(t)[None].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5, side)
                   for t in tiles]
        prompt = "<image_id></image_id><image>" + cells + "</image>"
        if grid:
            prompt += "\n".join([("<slice>" + cells + "</slice>") * grid[0]] * grid[1])
        return {"patches": numpy.concatenate(patches), "tiles": len(tiles), "prompt": prompt}

    def count(processor, size):
        grid = processor.grid(*size)
        return [64 * (1 + (grid[0] * grid[1] if grid else 0))]

    return {"name": name, "files": files, "side": side, "normal": (HALF, HALF), "token": "<unk>",
            "run": run, "sizes": sizes, "count": count, "torch": False,
            "make": lambda _: PublishedMiniCpmV(**settings)}


def minicpm_cases():
    yield minicpm_case("minicpmv", {"max_slice_nums": 9, "scale_resolution": 448, "patch_size": 14},
                       [[640, 480], [1275, 1650], [100, 50]])
    yield minicpm_case("minicpmv-small", {"max_slice_nums": 6, "scale_resolution": 56, "patch_size": 14},
                       [[64, 48], [300, 100], [97, 200], [30, 30]])


def cogvlm_cases():
    def run(_, picture):
        values = numpy.asarray(picture.resize((84, 84), PIL.Image.Resampling.BICUBIC))
        values = (values / 255 - numpy.array(CLIP_MEAN)) / numpy.array(CLIP_STD)
        return {"patches": as_patches(values[None].transpose(0, 3, 1, 2), 14), "prompt": "<pad>" * 11}

    yield {"name": "cogvlm2", "side": 14, "normal": (CLIP_MEAN, CLIP_STD), "token": "<pad>", "run": run,
           "files": {"config.json": {"model_type": "cogvlm2",
                                     "vision_config": {"patch_size": 14, "image_size": 84}},
                     "tokenizer_config.json": {"pad_token": "<pad>"}},
           "sizes": [[640, 480], [33, 90]], "torch": False, "make": lambda _: None}


def cases():
    for group in (llava_cases, llava_next_cases, internvl_cases, qwen_cases, gemma_cases,
                  idefics_cases, pixtral_cases, mllama_cases, minicpm_cases, cogvlm_cases):
        yield from group()
