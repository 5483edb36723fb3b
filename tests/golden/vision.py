"""Makes vision/: what Pillow and transformers' image processors make of drawn pictures.

    python3 tests/golden/vision.py                  # everything
    python3 tests/golden/vision.py resample processors files

Pictures are drawn from a formula that the tests repeat (vision/test_pictures.hpp), so only sums of
pixels stand in the files. Processors are built from the settings in vision_cases.py, by the Pillow
classes of transformers; `torch_difference` says how far its torch classes are from them.
"""

import json
import pathlib
import sys
import zlib

import numpy
import PIL
import PIL.Image
import transformers

import vision_cases
import vision_files

HERE = pathlib.Path(__file__).parent / "vision"
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
# Source and target; the last ones are boxes: left, top, right, bottom.
SIZES = [
    ((64, 48), (64, 48)), ((64, 48), (32, 24)), ((64, 48), (33, 25)), ((64, 48), (128, 96)),
    ((64, 48), (131, 97)), ((64, 48), (64, 97)), ((64, 48), (17, 48)), ((64, 48), (1, 1)),
    ((64, 48), (1, 48)), ((64, 48), (64, 1)), ((1, 1), (7, 5)), ((1, 48), (9, 9)),
    ((2, 3), (3, 2)), ((3, 2), (50, 60)), ((5, 7), (5, 300)), ((7, 5), (300, 5)),
    ((255, 257), (256, 256)), ((257, 255), (256, 256)), ((640, 480), (224, 224)),
    ((640, 480), (336, 252)), ((481, 641), (448, 448)), ((333, 500), (896, 896)),
    ((1000, 10), (100, 100)), ((10, 1000), (100, 100)), ((1275, 412), (1288, 420)),
    ((1275, 412), (31, 7)), ((3000, 4), (3, 3)), ((4, 3000), (2, 2)), ((97, 89), (89, 97)),
    ((320, 200), (317, 199)), ((320, 200), (321, 201)), ((15, 15), (16, 16)), ((16, 16), (15, 15)),
    ((31, 33), (93, 99)), ((100, 100), (37, 211)), ((200, 300), (14, 28)),
]
BOXES = [
    ((64, 48), (32, 24), (10, 8, 50, 40)), ((64, 48), (64, 48), (1, 0, 64, 48)),
    ((64, 48), (50, 60), (0.5, 0.25, 63.5, 47.75)), ((64, 48), (9, 9), (20.3, 10.7, 30.9, 20.1)),
    ((64, 48), (64, 20), (0, 3, 64, 45)), ((100, 100), (7, 7), (33, 33, 35, 35)),
]


def picture(width, height, seed=0):
    y, x, c = numpy.meshgrid(numpy.arange(height, dtype=numpy.uint32),
                             numpy.arange(width, dtype=numpy.uint32),
                             numpy.arange(3, dtype=numpy.uint32), indexing="ij")
    value = x * x * 3 + y * y * 5 + x * y * 7 + (c + 1) * (x * 31 + y * 17) + seed * 97
    return PIL.Image.fromarray(((value >> 3) & 255).astype(numpy.uint8), "RGB")


def checksum(array):
    return zlib.crc32(numpy.ascontiguousarray(array).tobytes())


def make_resample():
    cases = []
    for name, number in FILTERS.items():
        for source, target, *box in SIZES + BOXES:
            resized = picture(*source).resize(target, number, box=box[0] if box else None)
            cases.append({"filter": name, "source": source, "target": target,
                          "box": box[0] if box else [0, 0, *source],
                          "crc": checksum(numpy.asarray(resized))})
    return {"pillow": PIL.__version__, "cases": cases}


def as_patches(pixels, side):
    """(tiles, 3, height, width) to one row per patch, tile after tile."""
    tiles, _, height, width = pixels.shape
    cut = pixels.reshape(tiles, 3, height // side, side, width // side, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, 3 * side * side)


def seen(case, size, processor):
    """What the reference makes of a picture: patches, prompt and the rest."""
    result = case["run"](processor, picture(*size, seed=3))
    patches = numpy.asarray(result.pop("patches"), dtype=numpy.float64)
    mean, deviation = (numpy.array(v) for v in case["normal"])
    frames = patches.shape[1] // (3 * case["side"] ** 2)
    channel = numpy.repeat(numpy.arange(3), frames * case["side"] ** 2)
    levels = (patches * deviation[channel] + mean[channel]) * 255
    exact = numpy.rint(levels)
    assert numpy.abs(levels - exact).max() < 1e-2, (case["name"], size)
    prompt = result.pop("prompt")
    return {"size": size, "patches": patches.shape, "crc": checksum(exact.astype(numpy.uint8)),
            "first": [float(v) for v in patches[0, :4]], "sum": float(patches.sum()),
            "prompt_bytes": len(prompt.encode()), "prompt_crc": zlib.crc32(prompt.encode()),
            "image_tokens": prompt.count(case["token"]), **result}


def make_processors():
    cases = []
    for case in vision_cases.cases():
        processor = case["make"]("pil")
        entry = {"name": case["name"], "files": case["files"],
                 "pictures": [seen(case, size, processor) for size in case["sizes"]]}
        if case.get("torch", True):
            other = case["make"]("torch")
            drawn = picture(*case["sizes"][0], seed=3)
            difference = numpy.abs(numpy.asarray(case["run"](processor, drawn)["patches"]) -
                                   numpy.asarray(case["run"](other, drawn)["patches"]))
            entry["torch_difference"] = [float(difference.max()), float(difference.mean())]
        if "count" in case:
            entry["counts"] = [[*size, *case["count"](processor, size)] for size in vision_cases.COUNTED]
        cases.append(entry)
        print(case["name"], entry.get("torch_difference"))
    return {"transformers": transformers.__version__, "pillow": PIL.__version__, "cases": cases}


MAKERS = {"resample": make_resample, "processors": make_processors,
          "files": lambda: {"pillow": PIL.__version__, **vision_files.make(HERE / "files", picture)}}

if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MAKERS:
        text = json.dumps(MAKERS[name](), separators=(",", ":")).replace("},{", "},\n{")
        (HERE / f"{name}.json").write_text(text + "\n")
