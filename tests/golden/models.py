"""Makes the golden models: tiny random checkpoints, and what transformers answers on them.

    python3 tests/golden/models.py [NAME ...]      # rewrites tests/golden/models/NAME/

Weights and prompts are drawn by numpy from fixed seeds: the same library versions give the same
files. A prompt is drawn again until no choice on its greedy path is close, for an implementation
that differs in the last bits must still choose the same tokens; and a model is drawn again until it
is calm enough for half precision. tests/golden/README.md describes what is written.
"""

import argparse
import json
import pathlib
import platform
import shutil
import tempfile
import zlib

import numpy
import safetensors.torch
import torch
import transformers

import reference
import specs

HERE = pathlib.Path(__file__).parent
SCHEMA = 1
NEW_TOKENS = 16
MOST_TRIES = 400
MOST_MODELS = 20
WORST_DRIFT = 0.07
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
# Models whose rounded weights stay in folders of their own; of the others the tests round the f32 ones.
STORED_HALVES = {"gemma2", "llama1", "llama3"}
DTYPE_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


# -- weights ---------------------------------------------------------------------------------------

def draw(name: str, shape: tuple, seed: int) -> torch.Tensor:
    generator = numpy.random.Generator(numpy.random.PCG64([seed, zlib.crc32(name.encode())]))
    return torch.from_numpy(generator.standard_normal(shape, dtype=numpy.float32))


def spread(name: str, shape: tuple, config) -> tuple[float, float]:
    """Mean and deviation that keep activations near one and make every weight matter."""
    gemma, tied = config.model_type == "gemma2", config.tie_word_embeddings
    latent = config.model_type == "deepseek_v2"
    if "norm" in name or "ln_" in name:
        return (0.0 if gemma or name.endswith("bias") else 1.0), 0.2
    if name.endswith("bias"):
        return 0.0, 0.3
    fan_in = shape[-1]
    if "embed" in name:  # embeddings, and tied heads with them
        return 0.0, (0.3 if tied else 0.6) / (2 if gemma else 1)
    gain = 1.0
    if "lm_head" in name or "embed_out" in name:
        gain = 1.3 if latent else 1.6
    elif tied and "dense" in name:  # BLOOM: else the embedding outweighs the layers, and repeats
        gain = 2.5
    elif any(part in name for part in ("q_proj", "k_proj", "q_b_proj", "kv_a_proj", "gate.weight")):
        gain = 1.0 if latent else 1.3
    return 0.0, gain / fan_in ** 0.5


def initialise(model, seed: int) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, deviation = spread(name, tuple(parameter.shape), model.config)
            parameter.copy_(mean + deviation * draw(name, tuple(parameter.shape), seed))


def hub_tensors(model, spec: specs.Spec, seed: int) -> dict[str, torch.Tensor]:
    """The weights under the names that published checkpoints use."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = safetensors.torch.load_file(pathlib.Path(folder) / "model.safetensors")
    tensors = {name.removeprefix(spec.strip_prefix): tensor for name, tensor in tensors.items()}
    for name, shape in spec.stray.items():
        tensors[name] = draw(name, shape, seed).reshape(shape)
    return dict(sorted(tensors.items()))


# -- folders ---------------------------------------------------------------------------------------

def write_json(path: pathlib.Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_config(spec: specs.Spec, folder: pathlib.Path, dtype: str, end: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {**spec.config, "eos_token_id": end[0] if len(end) == 1 else end,
              "transformers_version": transformers.__version__}
    config["dtype" if "dtype" in config else "torch_dtype"] = DTYPE_NAMES[dtype]
    write_json(folder / "config.json", config)
    if spec.generation_config is not None:
        write_json(folder / "generation_config.json",
                   {**spec.generation_config, "eos_token_id": end})


def write_weights(tensors: dict, form: str, folder: pathlib.Path) -> None:
    meta = {"format": "pt"}
    if form == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    elif form == "sharded":
        names = list(tensors)
        shards, weight_map = [names[:len(names) // 2], names[len(names) // 2:]], {}
        for index, shard in enumerate(shards, start=1):
            file = f"model-{index:05}-of-{len(shards):05}.safetensors"
            safetensors.torch.save_file({n: tensors[n] for n in shard}, folder / file, meta)
            weight_map |= {name: file for name in shard}
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        write_json(folder / "model.safetensors.index.json",
                   {"metadata": {"total_size": total}, "weight_map": weight_map})
    else:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", meta)


def rounded(tensors: dict, dtype: torch.dtype) -> dict:
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def load(folder: pathlib.Path):
    """The folder as the reference library reads it; half-precision weights are raised to f32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


# -- cases -----------------------------------------------------------------------------------------

def find_case(model, spec: specs.Spec, length: int, seed: int) -> dict:
    """The first prompt of this length whose greedy path leaves no choice close."""
    vocab = model.config.vocab_size
    for attempt in range(MOST_TRIES):
        numbers = numpy.random.Generator(numpy.random.PCG64([seed, length, attempt]))
        prompt = numbers.integers(3, vocab, size=length).tolist()
        run = reference.greedy(model, prompt, 24 if length == 7 else NEW_TOKENS)
        if run.margin > reference.LEAST_MARGIN and run.routing_margin > reference.LEAST_ROUTING:
            if len(set(run.tokens)) >= 5:
                return {"attempt": attempt, "prompt": prompt, "run": run}
    raise SystemExit(f"{spec.name}: no prompt of {length} tokens with clear margins in "
                     f"{MOST_TRIES} tries")


def describe(case: dict, halves: dict, length_of_scores: int) -> dict:
    run = case["run"]
    out = {"name": f"prompt-{len(case['prompt'])}", "prompt": case["prompt"], "tokens": run.tokens,
           "logprobs": run.logprobs, "top": run.top, "margin": round(run.margin, 4)}
    if len(case["prompt"]) == length_of_scores:
        out["prompt_logprobs"] = [None, *run.prompt_logprobs]
    if run.experts:
        out["experts"] = run.experts
    out["forced"] = {}
    for dtype, half in halves.items():
        forced = reference.forced(half, case["prompt"], run.tokens)
        out["forced"][dtype] = {"logprobs": forced.logprobs}
        if forced.experts:
            out["forced"][dtype]["experts"] = forced.experts
    return out


def end_tokens(cases: list[dict], vocab: int, count: int) -> list[int]:
    """Ends that no greedy path meets, so that every case runs its full length."""
    used = {token for case in cases for token in case["run"].tokens}
    return [token for token in range(2, vocab) if token not in used][:count]


def generate(spec: specs.Spec) -> None:
    first = zlib.crc32(spec.name.encode()) % 1000
    for seed in range(first, first + MOST_MODELS):
        if make_model(spec, seed):
            return
    raise SystemExit(f"{spec.name}: half precision moves every model by more than {WORST_DRIFT}")


def make_model(spec: specs.Spec, seed: int) -> bool:
    """Writes the model of this seed; False when half precision moves it too far."""
    folder = HERE / "models" / spec.name
    shutil.rmtree(folder, ignore_errors=True)
    write_config(spec, folder, "f32", [2])
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    initialise(model, seed)
    tensors = hub_tensors(model, spec, seed)
    write_weights(tensors, spec.form, folder)
    model = load(folder)
    cases = [find_case(model, spec, length, seed) for length in spec.lengths]
    ends = end_tokens(cases, config.vocab_size, spec.ends)
    write_config(spec, folder, "f32", ends)
    halves = {}
    for name, dtype in DTYPES.items():
        write_config(spec, folder / name, name, ends)
        write_weights(rounded(tensors, dtype), spec.form, folder / name)
        halves[name] = load(folder / name)
    for case in cases:
        reference.cross_check(model, case["prompt"], case["run"])
    written = [describe(case, halves, length_of_scores=33) for case in cases]
    drift = reference.native_drift(folder, written)
    if max(drift.values()) > WORST_DRIFT:
        return False
    if spec.name not in STORED_HALVES:
        for name in DTYPES:
            shutil.rmtree(folder / name)
    write_expected(folder / "expected.json", {
        "schema": SCHEMA, "name": spec.name, "family": config.model_type, "about": spec.about,
        "seed": seed, "versions": versions(),
        "least_margin": reference.LEAST_MARGIN, "native_drift": drift, "cases": written})
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    tries = sum(case["attempt"] for case in cases)
    print(f"{spec.name:28} {size / 1000:6.0f} kB, seed {seed}, {tries:3} prompts drawn again, "
          f"drift {drift}", flush=True)
    return True


def write_expected(path: pathlib.Path, value: dict) -> None:
    """One line a field, so that a change shows where it is."""
    def line(item) -> str:
        return json.dumps(item, separators=(",", ":"))

    head = [f"  {line(k)}: {line(v)}" for k, v in value.items() if k != "cases"]
    cases = ["    {\n" + ",\n".join(f"      {line(k)}: {line(v)}" for k, v in case.items())
             + "\n    }" for case in value["cases"]]
    path.write_text("{\n" + ",\n".join(head) + ',\n  "cases": [\n' + ",\n".join(cases)
                    + "\n  ]\n}\n", encoding="utf-8")


def versions() -> dict:
    return {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
            "numpy": numpy.__version__, "python": platform.python_version()}


def quietly() -> None:
    """The reference on one thread, the same sums every time, and nothing but errors said."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def make(about: str, every: list, generate) -> None:
    """Of the models of a table those that the command line names, or all."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("names", nargs="*", help="models to make; all when none is named")
    names = parser.parse_args().names
    unknown = set(names) - {spec.name for spec in every}
    if unknown:
        parser.error(f"no such golden model: {', '.join(sorted(unknown))}")
    quietly()
    with torch.no_grad():
        for spec in every:
            if not names or spec.name in names:
                generate(spec)


if __name__ == "__main__":
    make(__doc__, specs.ALL, generate)
