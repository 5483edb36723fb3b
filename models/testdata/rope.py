"""Writes rope.json: what transformers makes of rope configs, for rope_test.cpp to compare with.

    python3 models/testdata/rope.py
"""
import json
import pathlib

import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BASE = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 4096}
CASES = {
    "plain": {"rope_theta": 10000.0},
    "large theta": {"rope_theta": 1000000.0, "head_dim": 96},
    "linear": {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama3": {"rope_theta": 500000.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024}},
    "yarn": {"rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}},
    "yarn, all said": {"rope_theta": 150000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 512, "beta_fast": 24.0,
        "beta_slow": 2.0, "truncate": False, "attention_factor": 1.25}},
    "yarn, mscales": {"rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.7,
        "mscale_all_dim": 1.0}},
    "longrope": {"rope_theta": 10000.0, "original_max_position_embeddings": 1024, "rope_scaling": {
        "rope_type": "longrope", "short_factor": [1.0 + 0.05 * i for i in range(32)],
        "long_factor": [1.0 + 1.5 * i for i in range(32)]}},
    "new form": {"rope_parameters": {"rope_theta": 20000.0, "rope_type": "linear", "factor": 2.0}},
    "a share of the head": {"rope_theta": 10000.0, "partial_rotary_factor": 0.5},
}


def frequencies(config, length=None):
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        dim = int((config.head_dim or 64) * config.rope_parameters.get("partial_rotary_factor", 1.0))
        theta = config.rope_parameters["rope_theta"]
        return [theta ** -(2 * i / dim) for i in range(dim // 2)], 1.0
    values, scale = ROPE_INIT_FUNCTIONS[kind](config, "cpu", **({"seq_len": length} if length else {}))
    return values.tolist(), float(scale)


out = []
for name, extra in CASES.items():
    config = LlamaConfig(**BASE, **json.loads(json.dumps(extra)))
    short, scale = frequencies(config)
    tables = [short]
    if config.rope_parameters["rope_type"] == "longrope":
        tables.append(frequencies(config, length=4096)[0])
    out.append({"name": name, "config": {**BASE, **extra}, "attention_scale": scale, "tables": tables})
path = pathlib.Path(__file__).with_name("rope.json")
path.write_text(json.dumps({"transformers": transformers.__version__, "cases": out}, indent=1) + "\n")
