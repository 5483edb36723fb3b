"""Makes vision/pictures.json: the golden vision-language models asked about picture files.

    python3 tests/golden/vision_pictures.py [NAME ...]      # all, or these models' anew

Files (vision/files/) go through Pillow and the model's own processor of transformers (its Pillow
class), prompts hold as many image tokens as that calls for, and the model answers greedily: what an
engine must say that is given the file's bytes. Models are those of vision/models/.
"""

import argparse
import dataclasses
import json
import pathlib
import platform

import numpy
import PIL
import PIL.Image
import torch
import transformers

import vision_cases
import vision_files
import vision_models
import vision_specs

HERE = pathlib.Path(__file__).parent / "vision"
# Colour; turned by its EXIF, and alpha over white; a palette with transparency, interlaced rows.
CASES = [["png-rgb.png"], ["png-exif-6.png", "png-rgba.png"],
         ["png-palette-alpha.png", "png-interlaced.png"]]
ONE_PICTURE = {"cogvlm2"}  # takes no more
PROCESSORS = {
    "CLIPImageProcessor": vision_cases.image_processing_pil_clip.CLIPImageProcessorPil,
    "LlavaNextImageProcessor":
        vision_cases.image_processing_pil_llava_next.LlavaNextImageProcessorPil,
    "GotOcr2ImageProcessor": vision_cases.image_processing_pil_got_ocr2.GotOcr2ImageProcessorPil,
    "Qwen2VLImageProcessor": vision_cases.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil,
    "Gemma3ImageProcessor": vision_cases.image_processing_pil_gemma3.Gemma3ImageProcessorPil,
    "Idefics3ImageProcessor": vision_cases.image_processing_pil_idefics3.Idefics3ImageProcessorPil,
    "PixtralImageProcessor": vision_cases.image_processing_pil_pixtral.PixtralImageProcessorPil,
    "MllamaImageProcessor": vision_cases.image_processing_pil_mllama.MllamaImageProcessorPil,
}


def opened(name: str) -> PIL.Image.Image:
    data = (HERE / "files" / name).read_bytes()
    return PIL.Image.fromarray(vision_files.expected(name, data))


def cut(values, side: int, rows: int, columns: int) -> torch.Tensor:
    """Channels x height x width to one row per patch."""
    values = numpy.asarray(values).reshape(3, rows, side, columns, side)
    return torch.tensor(values.transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1).copy()).float()


def own_processor(spec, pictures: list) -> tuple[dict, list[int]]:
    """MiniCPM-V's and CogVLM2's, which transformers lacks."""
    tiles, rows = [], []
    for picture in pictures:
        if spec.name == "cogvlm2":
            edge = spec.config["vision_config"]["image_size"]
            made = [picture.resize((edge, edge), PIL.Image.Resampling.BICUBIC)]
            mean, deviation = vision_cases.CLIP_MEAN, vision_cases.CLIP_STD
        else:
            settings = {k: spec.processor[k]
                        for k in ("max_slice_nums", "scale_resolution", "patch_size")}
            made = vision_cases.PublishedMiniCpmV(**settings).tiles(picture)[1]
            mean = deviation = vision_cases.HALF
        for tile in made:
            values = (numpy.asarray(tile) / 255 - mean) / deviation
            grid = (1, tile.height // 4, tile.width // 4)
            tiles.append((cut(values.transpose(2, 0, 1), 4, *grid[1:]), grid))
        each = spec.cases[1][0].rows if spec.name == "cogvlm2" else spec.config["query_num"]
        rows.append(each * len(made))
    return {"tiles": tiles}, rows


def llava_next_rows(spec, processor, picture: PIL.Image.Image) -> int:
    text = vision_cases.bare(vision_cases.LlavaNextProcessor, image_token="<image>", patch_size=4,
                             num_additional_image_tokens=1, image_processor=processor,
                             vision_feature_select_strategy="default")
    return text._get_number_of_features(picture.height, picture.width, 16, 16) - 1


def processed(spec, pictures: list) -> tuple[dict, list[int]]:
    """The keyword arguments of the model, and how many rows each picture has."""
    kind = spec.processor["image_processor_type"]
    if kind not in PROCESSORS:
        return own_processor(spec, pictures)
    settings = {k: v for k, v in spec.processor.items() if k != "image_processor_type"}
    processor = PROCESSORS[kind](**settings)
    nested = kind in ("Idefics3ImageProcessor", "MllamaImageProcessor")
    out = dict(processor([pictures] if nested else pictures, return_tensors="np"))
    values = out["pixel_values"]
    if kind == "LlavaNextImageProcessor":
        rows = [llava_next_rows(spec, processor, p) for p in pictures]
    elif kind == "GotOcr2ImageProcessor":
        rows = [4 * int(count) for count in out.pop("num_patches")]
    elif kind == "Qwen2VLImageProcessor":
        rows = [int(numpy.prod(grid)) // 4 for grid in out["image_grid_thw"]]
        out["mm_token_type_ids"] = True
    elif kind == "Idefics3ImageProcessor":
        alone = [processor([[p]], return_tensors="np")["pixel_values"].shape[1] for p in pictures]
        assert sum(alone) == values.shape[1]
        rows = [9 * count for count in alone]
    elif kind == "PixtralImageProcessor":
        rows = [int(h) // 4 * (int(w) // 4) for h, w in out["image_sizes"]]
    elif kind == "MllamaImageProcessor":
        rows = [1] * len(pictures)
        out["cross_attention_mask"] = out.pop("num_tiles")[0]
    else:
        rows = [spec.cases[1][0].rows] * len(pictures)
    if kind == "Gemma3ImageProcessor":
        out.pop("num_crops")
        out["token_type_ids"] = True
    return {k: torch.tensor(v) if isinstance(v, numpy.ndarray) else v for k, v in out.items()}, rows


def answered(model, spec, seed: int, index: int, files: list[str]) -> dict:
    pictures = [opened(name) for name in files]
    inputs, rows = processed(spec, pictures)
    text = spec.config.get("text_config", spec.config.get("llm_config", spec.config))
    asked = dataclasses.replace(spec, inputs=lambda *_: dict(inputs))
    shown = [vision_specs.Picture([], count) for count in rows]
    for attempt in range(vision_models.MOST_TRIES):
        numbers = numpy.random.Generator(numpy.random.PCG64([seed, 1000 + index, attempt]))
        prompt = vision_models.prompt_of(spec, numbers, text["vocab_size"], shown)
        run = vision_models.greedy(model, asked, prompt, [], [])
        if run is not None:
            run.pop("top")
            return {"model": spec.name, "files": files, "rows": rows, "prompt": prompt, **run}
    raise SystemExit(f"{spec.name}: no prompt with clear margins")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="models to ask; all when none is named")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    path = HERE / "pictures.json"
    known = json.loads(path.read_text())["cases"] if names else []
    cases = []
    for spec in vision_specs.ALL:
        folder = HERE / "models" / spec.name
        if not folder.exists():
            continue
        if names and spec.name not in names:
            cases += [case for case in known if case["model"] == spec.name]
            continue
        seed = json.loads((folder / "expected.json").read_text())["seed"]
        recipe = json.loads((folder / "weights.json").read_text())
        tensors = vision_models.reference_names(spec)
        model = vision_models.load(spec, tensors, recipe, seed, torch.float32)
        for index, files in enumerate(CASES):
            files = files[:1] if spec.name in ONE_PICTURE else files
            cases.append(answered(model, spec, seed, index, files))
            print(spec.name, files, cases[-1]["rows"], cases[-1]["margin"], flush=True)
    versions = {"transformers": transformers.__version__, "pillow": PIL.__version__,
                "torch": torch.__version__.split("+")[0], "python": platform.python_version()}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text(
        f'{{"versions": {json.dumps(versions)},\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    with torch.no_grad():
        main()
