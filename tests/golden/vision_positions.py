"""Writes vision/positions.json: M-RoPE positions as transformers' Qwen2-VL works them out.

    python3 tests/golden/vision_positions.py

Each case: tokens, the merged grids of its pictures (frames, rows, columns), the three positions of
every token, and rope_delta, what generated tokens add to their place.
"""

import json
import pathlib

import numpy
import torch
from transformers.models.qwen2_vl import configuration_qwen2_vl, modeling_qwen2_vl

IMAGE = 99
MERGE = 2


def prompt(numbers, pieces: list) -> tuple[list[int], list[tuple[int, int, int]]]:
    tokens, grids = [], []
    for piece in pieces:
        if isinstance(piece, int):
            tokens += numbers.integers(0, 90, size=piece).tolist()
        else:
            tokens += [IMAGE] * (piece[0] * piece[1] * piece[2])
            grids.append(piece)
    return tokens, grids


def rope_index(model, tokens: list[int], grids: list) -> tuple[list, int]:
    ids = torch.tensor([tokens])
    thw = torch.tensor([[t, h * MERGE, w * MERGE] for t, h, w in grids])
    positions, delta = modeling_qwen2_vl.Qwen2VLModel.get_rope_index(
        model, ids, image_grid_thw=thw, mm_token_type_ids=(ids == IMAGE).int())
    return positions[:, 0].T.tolist(), int(delta[0, 0])


def main() -> None:
    class Model:  # get_rope_index needs the configuration alone
        config = configuration_qwen2_vl.Qwen2VLConfig(vision_config={"spatial_merge_size": MERGE})
        get_vision_position_ids = modeling_qwen2_vl.Qwen2VLModel.get_vision_position_ids

    numbers = numpy.random.Generator(numpy.random.PCG64(6))
    cases = []
    for name, pieces in {
        "one picture in the middle": [5, (1, 3, 4), 6],
        "a picture first": [(1, 2, 7), 3],
        "a picture last": [4, (1, 6, 2)],
        "two of other sizes": [1, (1, 2, 2), 2, (1, 5, 3), 1],
        "three in a row with single separators": [2, (1, 1, 1), 1, (1, 4, 1), 1, (1, 1, 4), 2],
        "frames": [3, (4, 2, 3), 5],
        "more frames than rows": [2, (6, 1, 2), 3],
    }.items():
        tokens, grids = prompt(numbers, pieces)
        positions, delta = rope_index(Model(), tokens, grids)
        cases.append({"name": name, "tokens": tokens, "grids": grids, "positions": positions,
                      "rope_delta": delta})
    lines = ",\n  ".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path = pathlib.Path(__file__).parent / "vision" / "positions.json"
    path.write_text(f'{{"image_token": {IMAGE}, "cases": [\n  {lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
