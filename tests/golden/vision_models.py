"""Makes the golden vision-language models: tiny ones, and what transformers answers on them.

    python3 tests/golden/vision_models.py [NAME ...]      # rewrites vision/models/NAME/

A folder holds config.json, preprocessor_config.json, weights.json (weights are a function of seed
and name, see vision_weights.py, and so are the pictures' patches) and expected.json. The reference
runs without a cache: every step sees the whole sequence, which is the definition of the model.
"""

import importlib
import json
import pathlib
import shutil
import tempfile

import numpy
import safetensors.torch
import torch
import transformers

import models
import vision_specs
import vision_weights

HERE = pathlib.Path(__file__).parent
NEW_TOKENS = 8
LEAST_MARGIN = 1e-2
TOP = 5
MOST_TRIES = 200


def spread(name: str, shape: tuple) -> tuple[float, float]:
    """Mean and deviation that keep activations near one and make every weight matter."""
    if name.endswith(("gate", "gate_attn", "gate_ffn")):
        return 0.6, 0.3
    if "norm" in name or "ln_" in name or "layernorm" in name or ".ln" in name:
        return (0.0 if name.endswith("bias") else 1.0), 0.2
    if "lambda_" in name or name.endswith((".ls1", ".ls2")):
        return 0.8, 0.2
    if name.endswith("bias"):
        return 0.0, 0.2
    if "embed_tokens" in name or "tok_embeddings" in name:
        return 0.0, 0.6
    if "position_embedding" in name or "embedding" in name and len(shape) < 4:
        return 0.0, 0.5
    if len(shape) < 2:
        return 0.0, 0.5
    fan_in = int(numpy.prod(shape[1:]))
    return 0.0, (1.6 if "lm_head" in name else 1.2) / fan_in ** 0.5


ORDER = {"q_proj": "0", "k_proj": "1", "v_proj": "2", "gate_proj": "0", "up_proj": "1"}


def in_order(name: str) -> str:
    """Parts of one stored tensor in the order in which they stand in it."""
    for part, place in ORDER.items():
        name = name.replace(part, place)
    return name


def reference_config(spec) -> dict:
    return spec.config if spec.reference_config is None else spec.reference_config


def reference_names(spec) -> dict[str, tuple]:
    """Names and shapes of the reference's tensors, as it saves them."""
    if spec.reference:
        model = importlib.import_module(spec.reference).Model(spec.config)
        return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "config.json").write_text(json.dumps(reference_config(spec)))
        config = transformers.AutoConfig.from_pretrained(folder)
        model = transformers.AutoModelForImageTextToText.from_config(config)
        model.save_pretrained(folder)
        tensors = safetensors.torch.load_file(path / "model.safetensors")
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def published(spec, names: dict[str, tuple]) -> dict[str, list[str]]:
    """The reference's names behind each published one, in order."""
    out: dict[str, list[str]] = {}
    for name in sorted(names, key=in_order):
        out.setdefault(spec.publish(name), []).append(name)
    return out


def recipe_of(spec, names: dict[str, tuple]) -> dict:
    recipe = {}
    for name, parts in published(spec, names).items():
        shape = names[parts[0]]
        if len(parts) > 1:
            shape = (sum(names[part][0] for part in parts), *shape[1:])
        mean, deviation = spread(name, shape)
        recipe[name] = [list(shape), round(mean, 6), round(deviation, 6)]
    return recipe


def reference_tensors(spec, names: dict, recipe: dict, seed: int, dtype) -> dict:
    """What the folder stores, rounded to `dtype`, under the reference's names."""
    tensors = {}
    for name, parts in published(spec, names).items():
        shape, mean, deviation = recipe[name]
        stored = vision_weights.draw(seed, name, tuple(shape), mean, deviation).to(dtype)
        if len(parts) == 1:
            tensors[parts[0]] = stored
        elif spec.split is not None:
            tensors |= spec.split(stored, parts)
        else:
            sizes = [names[part][0] for part in parts]
            tensors |= dict(zip(parts, (t.contiguous() for t in stored.split(sizes))))
    return tensors


def load(spec, names: dict, recipe: dict, seed: int, dtype: torch.dtype):
    """The folder as the reference reads it, weights rounded to `dtype` and computed with in f32."""
    tensors = reference_tensors(spec, names, recipe, seed, dtype)
    if spec.reference:
        model = importlib.import_module(spec.reference).Model(spec.config)
        model.load_state_dict({name: t.float() for name, t in tensors.items()})
        return model.eval()
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place)
        (path / "config.json").write_text(json.dumps(reference_config(spec)))
        safetensors.torch.save_file(tensors, path / "model.safetensors", {"format": "pt"})
        model, info = transformers.AutoModelForImageTextToText.from_pretrained(
            place, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    return model.eval()


def patches_of(spec, seed: int, case: int, pictures: list) -> list:
    """(patches, grid) of every tile, picture after picture."""
    out = []
    for p, picture in enumerate(pictures):
        for t, grid in enumerate(picture.tiles):
            count = grid[0] * grid[1] * grid[2]
            name = f"case {case} picture {p} tile {t}"
            out.append((vision_weights.draw(seed, name, (count, spec.patch_values), 0.0, 1.0),
                        grid))
    return out


def prompt_of(spec, numbers, vocab: int, pictures: list) -> list[int]:
    """Text, and each picture's image tokens; text between pictures too."""
    def text(count):
        tokens = numbers.integers(4, vocab, size=count).tolist()
        return [token if token != spec.image_token else 4 for token in tokens]

    out = [1, *text(3)]
    for index, picture in enumerate(pictures):
        out += [spec.image_token] * (picture.tokens or picture.rows) + text(2 + index)
    return out + text(4)


def cross_mask(tokens: list[int], image_token: int, tiles: list[int]):
    """Which tiles each token sees, by transformers' own rules."""
    from transformers.models.mllama import processing_mllama
    spans = processing_mllama.get_cross_attention_token_mask(tokens, image_token)
    return processing_mllama.convert_sparse_cross_attention_mask_to_dense(
        [spans], num_tiles=[tiles], max_num_tiles=4, length=len(tokens))[0]


def scores_of(model, spec, tokens: list[int], tiles: list, pictures: list) -> torch.Tensor:
    ids = torch.tensor([tokens])
    inputs = spec.inputs(spec, tiles, pictures)
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = (ids == spec.image_token).int()
    if "token_type_ids" in inputs:
        inputs["token_type_ids"] = (ids == spec.image_token).int()
    if "cross_attention_mask" in inputs:
        inputs["cross_attention_mask"] = torch.tensor(cross_mask(
            tokens, spec.image_token, inputs["cross_attention_mask"]))[None]
    if hasattr(getattr(model, "model", None), "rope_deltas"):
        model.model.rope_deltas = None
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False,
                   **inputs).logits
    return logits[0].double().log_softmax(-1)


def greedy(model, spec, prompt: list[int], tiles: list, pictures: list) -> dict | None:
    """The greedy path; none when any choice on it is close or names the image token."""
    tokens, logprobs, top, margin = [], [], [], 1e9
    for _ in range(NEW_TOKENS):
        scores = scores_of(model, spec, prompt + tokens, tiles, pictures)[-1]
        best = scores.topk(TOP)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        token = int(best.indices[0])
        if margin < LEAST_MARGIN or token == spec.image_token:
            return None
        tokens.append(token)
        logprobs.append(round(scores[token].item(), 6))
        top.append([[i, round(v, 6)] for i, v in zip(best.indices.tolist(), best.values.tolist())])
    return {"tokens": tokens, "logprobs": logprobs, "top": top, "margin": round(margin, 4)}


def forced(model, spec, case: dict, tiles: list, pictures: list) -> list[float]:
    whole = case["prompt"] + case["tokens"][:-1]
    scores = scores_of(model, spec, whole, tiles, pictures)[len(case["prompt"]) - 1:]
    picked = scores.gather(1, torch.tensor(case["tokens"])[:, None])[:, 0]
    return [round(v, 6) for v in picked.tolist()]


def make_case(model, spec, seed: int, index: int, pictures: list, vocab: int) -> dict:
    tiles = patches_of(spec, seed, index, pictures)
    for attempt in range(MOST_TRIES):
        numbers = numpy.random.Generator(numpy.random.PCG64([seed, index, attempt]))
        prompt = prompt_of(spec, numbers, vocab, pictures)
        run = greedy(model, spec, prompt, tiles, pictures)
        if run is not None:
            return {"name": f"{len(pictures)} pictures", "prompt": prompt, **run}
    raise SystemExit(f"{spec.name}: no prompt with clear margins in {MOST_TRIES} tries")


def generate(spec) -> None:
    folder = HERE / "vision" / "models" / spec.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed = sum(spec.name.encode())
    (folder / "config.json").write_text(
        json.dumps({"eos_token_id": 2, "bos_token_id": 1} | spec.config, indent=1) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(spec.processor) + "\n")
    for name, content in spec.files.items():
        (folder / name).write_text(json.dumps(content) + "\n")
    names = reference_names(spec)
    recipe = recipe_of(spec, names)
    model = load(spec, names, recipe, seed, torch.float32)
    halves = {name: load(spec, names, recipe, seed, dtype) for name, dtype in models.DTYPES.items()}
    text = spec.config.get("text_config", spec.config.get("llm_config", spec.config))
    cases = []
    for index, pictures in enumerate(spec.cases):
        case = make_case(model, spec, seed, index, pictures, text["vocab_size"])
        tiles = patches_of(spec, seed, index, pictures)
        case["forced"] = {name: forced(half, spec, case, tiles, pictures)
                          for name, half in halves.items()}
        case["pictures"] = [vars(picture) for picture in pictures]
        cases.append(case)
    lines = [json.dumps(name) + ": " + json.dumps(v, separators=(",", ":"))
             for name, v in sorted(recipe.items())]
    (folder / "weights.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    models.write_expected(folder / "expected.json", {
        "schema": 1, "name": spec.name, "about": spec.about, "seed": seed,
        "reference": spec.reference or "transformers",
        "versions": models.versions(),
        "image_token": spec.image_token, "patch_values": spec.patch_values, "cases": cases})
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{spec.name:24} {size / 1000:5.0f} kB, {len(recipe)} tensors, margins "
          f"{[case['margin'] for case in cases]}", flush=True)


if __name__ == "__main__":
    models.make(__doc__, vision_specs.ALL, generate)
