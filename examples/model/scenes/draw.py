"""Draws a new scene and asks one question about it (standard library only).

    python3 examples/model/scenes/draw.py --out scene.png --show      # another scene every time
    python3 examples/model/scenes/draw.py --seed 7 --out scene.png    # this one

Prints one line of JSON: the picture's file and size, the question, the right answer and the seed.
With --show the picture appears on standard error as blocks of colour (shades if NO_COLOR is set).
"""

import argparse
import json
import pathlib
import random
import secrets
import sys

import questions
import raster
import scene as scenes

# What a first look should ask: kinds whose answer takes looking, and is more than yes or no.
KINDS = ["describe", "word", "number", "count", "colour", "shape", "place", "what_at", "biggest"]


def drawn(
    seed: int, kinds: list[str], count: int = 1, wide: int | None = None
) -> tuple[scenes.Scene, list[tuple]]:
    """A held-out scene (its words are never printed in training) with `count` questions of
    different kinds about it, each (kind, question, answer)."""
    if count > len(set(kinds)):
        raise ValueError(f"{count} questions of different kinds, and only {len(set(kinds))} kinds")
    rng = random.Random(seed)
    inventor = scenes.Inventor(rng, held_out=True, fonts=raster.FONTS)
    asker = questions.Asker(rng)
    while True:
        scene = inventor.scene()
        if wide and scene.width > wide:
            continue
        asked = []
        for kind in rng.sample(sorted(set(kinds)), len(set(kinds))):
            made = asker.ask(scene, kind)
            if made and len(asked) < count:
                asked.append((kind, made[0], made[1]))
        if len(asked) == count:
            return scene, asked


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="the same seed draws the same scene")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the PNG file to write")
    parser.add_argument(
        "--kind",
        action="append",
        choices=sorted(questions.Asker.WEIGHTS),
        help="ask this kind of question; may be given several times",
    )
    parser.add_argument("--show", action="store_true", help="show the picture on standard error")
    parser.add_argument("--columns", type=int, default=64, help="width of the picture shown")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    scene, [(kind, question, answer)] = drawn(seed, options.kind or KINDS)
    rows = raster.draw(scene)
    options.out.write_bytes(raster.png(rows))
    if options.show:
        sys.stderr.write(raster.blocks(rows, options.columns))
    columns, lines = scene.tiles()
    print(
        json.dumps(
            {
                "image": str(options.out),
                "width": scene.width,
                "height": scene.height,
                "tiles": columns * lines,
                "kind": kind,
                "question": question,
                "answer": answer,
                "seed": seed,
            }
        )
    )


if __name__ == "__main__":
    main()
