"""Runs a model of transformers token by token; notes what it would choose, and how surely.

The prompt goes in at once and every further token alone, over transformers' own cache: this is what
its `generate` does, and cross_check() holds the two together. It matters for rope scalings that
look at the length: the prompt is rotated for its own length, each later token for the length it
reaches, and keys in the cache keep their rotation.
"""

import copy
import dataclasses
import math
import pathlib

import torch
import transformers

LEAST_MARGIN = 1e-2  # between the two likeliest tokens, in logprob
LEAST_ROUTING = 2e-4  # between the last chosen expert and the first refused, in probability
TOP = 5
DECIMALS = 6


@dataclasses.dataclass
class Run:
    tokens: list[int]
    logprobs: list[float]
    top: list[list]
    prompt_logprobs: list[float]
    experts: list[dict]  # [{"layer": i, "ids": [[...] for each token fed]}]
    margin: float
    routing_margin: float


class Routing:
    """Watches the routers of a mixture model, or makes them choose what another run chose."""

    def __init__(self, model, given: list[dict] | None = None):
        self.seen: dict[int, list] = {}
        self.given = {layer["layer"]: layer["ids"] for layer in given or []}
        self.margin = math.inf
        self.handles = []
        for name, module in model.named_modules():
            if type(module).__name__ in ("MixtralTopKRouter", "DeepseekV2TopkRouter",
                                         "Qwen2MoeTopKRouter", "Qwen3MoeTopKRouter"):
                layer = int(name.split("layers.")[1].split(".")[0])
                self.handles.append(module.register_forward_hook(self.watch(layer)))

    def watch(self, layer: int):
        def hook(module, _, output):
            logits, weights, ids = output
            if self.given:
                begin = len(self.seen.get(layer, []))
                ids = torch.tensor(self.given[layer][begin:begin + len(logits)])
                weights = self.weights_of(module, logits, ids)
            order = weights.argsort(dim=-1, descending=True, stable=True)
            self.seen.setdefault(layer, []).extend(ids.gather(-1, order).tolist())
            self.margin = min(self.margin, self.margin_of(module, logits))
            return logits, weights, ids
        return hook

    @staticmethod
    def weights_of(module, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        picked = logits.float().softmax(-1).gather(-1, ids)
        if hasattr(module, "routed_scaling_factor"):
            return picked * module.routed_scaling_factor
        if not getattr(module, "norm_topk_prob", True):
            return picked
        return picked / picked.sum(-1, keepdim=True)

    @staticmethod
    def margin_of(module, logits: torch.Tensor) -> float:
        def gap(scores: torch.Tensor, k: int) -> float:
            if k >= scores.shape[-1]:
                return math.inf
            best = scores.topk(k + 1, dim=-1).values
            return (best[:, k - 1] - best[:, k]).min().item()

        scores = logits.float().softmax(-1)
        if getattr(module, "topk_method", "greedy") == "greedy":
            return gap(scores, module.top_k)
        grouped = scores.view(len(scores), module.num_group, -1)
        best = grouped.max(-1).values
        kept = torch.zeros_like(best).scatter(1, best.topk(module.topk_group, -1).indices, 1.0)
        inside = (grouped * kept.unsqueeze(-1)).flatten(1)
        return min(gap(best, module.topk_group), gap(inside, module.top_k))

    def result(self) -> list[dict]:
        for handle in self.handles:
            handle.remove()
        return [{"layer": layer, "ids": ids} for layer, ids in sorted(self.seen.items())]


def fresh(model):
    """Rope scalings that look at the length keep state between calls; start from none."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    return copy.deepcopy(model) if rope.get("rope_type") in ("dynamic", "longrope") else model


def follow(model, prompt: list[int], count: int, given: list[int] | None = None,
           experts: list[dict] | None = None) -> Run:
    """`count` steps along the likeliest tokens, or along `given` ones and `experts`."""
    model = fresh(model)
    routing = Routing(model, experts)
    cache = transformers.DynamicCache(config=model.config)
    run = Run([], [], [], [], [], math.inf, math.inf)
    step = torch.tensor([prompt])
    for index in range(count):
        logits = model(input_ids=step, past_key_values=cache, use_cache=True).logits[0].double()
        scores = logits.log_softmax(-1)
        if index == 0:
            picked = scores[:-1].gather(1, step[0, 1:, None])[:, 0]
            run.prompt_logprobs = [round(v, DECIMALS) for v in picked.tolist()]
        best = scores[-1].topk(TOP)
        token = given[index] if given else int(best.indices[0])
        run.margin = min(run.margin, (best.values[0] - best.values[1]).item())
        run.tokens.append(token)
        run.logprobs.append(round(scores[-1, token].item(), DECIMALS))
        run.top.append([[i, round(v, DECIMALS)]
                        for i, v in zip(best.indices.tolist(), best.values.tolist())])
        step = torch.tensor([[token]])
    run.experts, run.routing_margin = routing.result(), routing.margin
    return run


def greedy(model, prompt: list[int], count: int) -> Run:
    return follow(model, prompt, count)


def forced(model, prompt: list[int], tokens: list[int], experts: list[dict] | None = None) -> Run:
    return follow(model, prompt, len(tokens), tokens, experts)


def cross_check(model, prompt: list[int], run: Run) -> None:
    """The run again by `generate`, and once more without any cache."""
    ids = torch.tensor([prompt])
    copied = fresh(model)
    copied.generation_config.eos_token_id = None
    made = copied.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                           max_new_tokens=len(run.tokens), temperature=None, top_p=None,
                           top_k=None, pad_token_id=0)
    assert made[0, len(prompt):].tolist() == run.tokens, "generate() chose other tokens"
    if fresh(model) is not model:
        return  # without a cache every step rotates all keys anew: another definition
    whole = torch.tensor([prompt + run.tokens[:-1]])
    scores = model(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1:].log_softmax(-1)
    picked = scores.gather(1, torch.tensor(run.tokens)[:, None])[:, 0].tolist()
    worst = max(abs(a - b) for a, b in zip(picked, run.logprobs))
    assert worst < 2e-4, f"the cache changes logprobs by {worst}"


def native_drift(folder: pathlib.Path, cases: list[dict]) -> dict:
    """How far logprobs move when transformers also computes in half precision, experts given.

    It tells how much of a tolerance of 0.1 the rounding of activations alone eats up.
    """
    drift = {}
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder / name, dtype=dtype, attn_implementation="eager").eval()
        drift[name] = 0.0
        for case in cases:
            half = case["forced"][name]
            native = forced(model, case["prompt"], case["tokens"], half.get("experts"))
            drift[name] = max(drift[name], *(abs(a - b) for a, b in zip(
                native.logprobs, half["logprobs"])))
        drift[name] = round(drift[name], 4)
    return drift
