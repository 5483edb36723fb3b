#!/usr/bin/env python3
"""transformers' image processors as peers of vision_preprocess: Qwen2-VL and InternVL on a page.

  vision_hf.py make DIR                    writes DIR/page.png and DIR/page.jpg (1275 x 1650)
  vision_hf.py time DIR [--threads 2]      prints the figures of the Pillow and torch processors
  vision_hf.py compare DIR PROGRAM         runs PROGRAM (vision_preprocess) and each of them in turn,
                                           --pairs times, and prints the ratios of the medians

Every figure is one process on the cores that it is given: torch with --threads threads, Pillow as it
is, PROGRAM with --threads workers. CPU milliseconds count all threads.
Needs: pip install torch torchvision transformers pillow numpy
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SETTINGS = {
    "qwen2-vl": ("qwen2_vl", "Qwen2VLImageProcessor", {"min_pixels": 3136, "max_pixels": 12845056}, {}),
    "internvl": ("got_ocr2", "GotOcr2ImageProcessor",
                 {"size": {"height": 448, "width": 448}, "min_patches": 1, "max_patches": 12,
                  "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
                 {"crop_to_patches": True}),
}


def make(folder):
    from PIL import Image, ImageDraw
    folder.mkdir(parents=True, exist_ok=True)
    page = Image.new("RGB", (1275, 1650), (252, 251, 247))
    draw = ImageDraw.Draw(page)
    words = "the quick brown fox jumps over a lazy dog while seven wizards mix grey potions".split()
    for line in range(70):
        text = " ".join(words[(line * 7 + i * 3) % len(words)] for i in range(17))
        draw.text((90, 80 + line * 21), text, fill=(20, 20, 25), font_size=17)
    draw.rectangle((700, 1180, 1180, 1560), fill=(70, 110, 190), outline=(0, 0, 0), width=4)
    for i in range(24):
        draw.ellipse((710 + i * 17, 1200 + i * 11, 790 + i * 17, 1280 + i * 11),
                     fill=(10 * i, 255 - 9 * i, 90 + 5 * i))
    page.save(folder / "page.png")
    page.save(folder / "page.jpg", quality=90)


def processor_of(setting, backend):
    import importlib
    module, name, options, call = SETTINGS[setting]
    part = "image_processing_pil_" if backend == "pil" else "image_processing_"
    loaded = importlib.import_module(f"transformers.models.{module}.{part}{module}")
    return getattr(loaded, name + ("Pil" if backend == "pil" else ""))(**options), call


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(setting, backend, data, decoded, seconds):
    from PIL import Image
    processor, call = processor_of(setting, backend)
    image = Image.open(io.BytesIO(data))
    image.load()
    kind = "np" if backend == "pil" else "pt"

    def work():
        processor(Image.open(io.BytesIO(data)) if decoded else image, return_tensors=kind, **call)

    work()
    count, begin, cpu = 0, time.perf_counter(), cpu_seconds()
    while count < 3 or time.perf_counter() - begin < seconds:
        work()
        count += 1
    return {"images_per_second": count / (time.perf_counter() - begin),
            "cpu_ms": (cpu_seconds() - cpu) * 1e3 / count}


def peers(folder, threads, seconds):
    import torch
    torch.set_num_threads(threads)
    for setting in SETTINGS:
        for backend in ("pil", "torch"):
            for name in ("page.png", "page.jpg"):
                data = (folder / name).read_bytes()
                for decoded in (False, True):
                    yield {"setting": setting, "backend": backend,
                           "input": f"{name} {'decoded' if decoded else 'pixels'}",
                           **measure(setting, backend, data, decoded, seconds)}


def ours(program, folder, threads, seconds):
    command = [program, str(folder / "page.png"), str(folder / "page.jpg"), "--json",
               "--threads", str(threads), "--seconds", str(seconds)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def compare(folder, program, threads, seconds, pairs):
    runs = {}
    for _ in range(pairs):
        for row in ours(program, folder, threads, seconds):
            if row["setting"] == "machine":
                print(f"machine: arithmetic alone, {row['threads']} workers: "
                      f"{row['of_linear']:.2f} of linear", flush=True)
                continue
            runs.setdefault((row["setting"], row["input"], f"ours-{row['threads']}"), []).append(row)
        for row in peers(folder, threads, seconds):
            runs.setdefault((row["setting"], row["input"], row["backend"]), []).append(row)
    median = {key: {field: statistics.median(row[field] for row in rows)
                    for field in ("images_per_second", "cpu_ms", "of_linear") if field in rows[0]}
              for key, rows in runs.items()}
    out = []
    for setting, what, who in median:
        if not who.startswith("ours") or who == "ours-1" != f"ours-{threads}":
            continue
        row = {"setting": setting, "input": what, "threads": threads, **median[setting, what, who]}
        for peer in ("pil", "torch"):
            theirs = median[setting, what, peer]
            row[peer] = theirs
            row[f"speed_{peer}"] = row["images_per_second"] / theirs["images_per_second"]
            row[f"cpu_{peer}"] = theirs["cpu_ms"] / row["cpu_ms"]
        out.append(row)
        print(f"{setting:9} {what:18} {row['images_per_second']:8.1f} images/s: "
              f"{row['speed_pil']:.1f}x Pillow, {row['speed_torch']:.1f}x torch; by CPU time "
              f"{row['cpu_pil']:.1f}x, {row['cpu_torch']:.1f}x; {row['of_linear']:.2f} of linear",
              flush=True)
    print(json.dumps(out))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["make", "time", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    if args.verb == "make":
        make(args.folder)
    elif args.verb == "time":
        for row in peers(args.folder, args.threads, args.seconds):
            print(json.dumps(row), flush=True)
    elif args.program:
        compare(args.folder, args.program, args.threads, args.seconds, args.pairs)
    else:
        sys.exit("compare needs a program, behind --")
