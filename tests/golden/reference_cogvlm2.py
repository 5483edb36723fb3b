"""CogVLM2, which transformers does not have: written from the published architecture (its own
modeling code on the hub): EVA-CLIP with norms behind its branches, a convolution of 2 x 2 and a
gated projection, learnt rows around each picture, Llama with visual experts."""

import types

import torch
from torch import nn
from torch.nn import functional

PAD = 3


def attend(query, key, value, heads: int, causal: bool) -> torch.Tensor:
    """Rows x heads * width each; fewer key heads are repeated."""
    rows, dim = query.shape[0], query.shape[1] // heads
    shared = heads // (key.shape[1] // dim)
    q = query.view(rows, heads, dim).transpose(0, 1)
    k, v = (x.view(rows, -1, dim).transpose(0, 1).repeat_interleave(shared, 0)
            for x in (key, value))
    scores = q @ k.transpose(1, 2) / dim ** 0.5
    if causal:
        scores = scores + torch.full((rows, rows), float("-inf")).triu(1)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(rows, -1)


class EvaLayer(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        width = c["hidden_size"]
        self.heads = c["num_heads"]
        self.input_layernorm = nn.LayerNorm(width, eps=c["layer_norm_eps"])
        self.attention = nn.ModuleDict({"query_key_value": nn.Linear(width, 3 * width),
                                        "dense": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, c["intermediate_size"]),
                                  "fc2": nn.Linear(c["intermediate_size"], width)})
        self.post_attention_layernorm = nn.LayerNorm(width, eps=c["layer_norm_eps"])

    def forward(self, x):
        q, k, v = self.attention["query_key_value"](x).chunk(3, -1)
        seen = self.attention["dense"](attend(q, k, v, self.heads, causal=False))
        x = x + self.input_layernorm(seen)
        wide = self.mlp["fc2"](functional.gelu(self.mlp["fc1"](x)))
        return x + self.post_attention_layernorm(wide)


class Glu(nn.Module):
    def __init__(self, width: int, hidden: int, inner: int):
        super().__init__()
        self.linear_proj = nn.Linear(width, hidden, bias=False)
        self.norm1 = nn.LayerNorm(hidden)
        self.dense_h_to_4h = nn.Linear(hidden, inner, bias=False)
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.dense_4h_to_h = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        x = functional.gelu(self.norm1(self.linear_proj(x)))
        return self.dense_4h_to_h(functional.silu(self.gate_proj(x)) * self.dense_h_to_4h(x))


class Eyes(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        c = config["vision_config"]
        width, hidden = c["hidden_size"], config["hidden_size"]
        self.patch_embedding = nn.Module()
        self.patch_embedding.proj = nn.Conv2d(3, width, c["patch_size"], c["patch_size"])
        self.patch_embedding.cls_embedding = nn.Parameter(torch.zeros(1, width))
        self.patch_embedding.position_embedding = nn.Embedding(c["num_positions"], width)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            [EvaLayer(c) for _ in range(c["num_hidden_layers"])])
        self.conv = nn.Conv2d(width, width, kernel_size=2, stride=2)
        self.linear_proj = Glu(width, hidden, config["intermediate_size"])
        self.boi = nn.Parameter(torch.zeros(1, 1, hidden))
        self.eoi = nn.Parameter(torch.zeros(1, 1, hidden))

    def forward(self, patches, grid):
        kernel = self.patch_embedding.proj
        x = patches @ kernel.weight.flatten(1).T + kernel.bias
        x = torch.cat([self.patch_embedding.cls_embedding, x])
        x = x + self.patch_embedding.position_embedding.weight
        for layer in self.transformer.layers:
            x = layer(x)
        x = x[1:].view(grid[1], grid[2], -1).permute(2, 0, 1)
        x = self.linear_proj(self.conv(x[None])[0].flatten(1).T)
        return torch.cat([self.boi[0], x, self.eoi[0]])


class Rms(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Mlp(nn.Module):
    def __init__(self, hidden: int, inner: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def rotate(x, places, heads: int, theta: float):
    rows, dim = x.shape[0], x.shape[1] // heads
    angles = places[:, None].float() / theta ** (torch.arange(0, dim, 2).float() / dim)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x.view(rows, heads, dim).chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).reshape(rows, -1)


class Layer(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        hidden = c["hidden_size"]
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_multi_query_heads"]
        self.kv = hidden // self.heads * self.kv_heads
        out = hidden + 2 * self.kv
        self.self_attn = nn.ModuleDict({
            "vision_expert_query_key_value": nn.Linear(hidden, out, bias=True),
            "vision_expert_dense": nn.Linear(hidden, hidden, bias=False),
            "language_expert_query_key_value": nn.Linear(hidden, out, bias=False),
            "language_expert_dense": nn.Linear(hidden, hidden, bias=False)})
        self.mlp = nn.ModuleDict({"language_mlp": Mlp(hidden, c["intermediate_size"]),
                                  "vision_mlp": Mlp(hidden, c["intermediate_size"])})
        self.input_layernorm = Rms(hidden, c["rms_norm_eps"])
        self.post_attention_layernorm = Rms(hidden, c["rms_norm_eps"])

    def forward(self, x, seeing, places):
        def by_expert(parts, name, rows):
            vision, language = (parts[f"{kind}_{name}"](rows) for kind in ("vision", "language"))
            return torch.where(seeing[:, None], vision, language)

        qkv = by_expert(self.self_attn, "expert_query_key_value", self.input_layernorm(x))
        q, k, v = qkv.split([x.shape[1], self.kv, self.kv], -1)
        q, k = rotate(q, places, self.heads, 5e5), rotate(k, places, self.kv_heads, 5e5)
        x = x + by_expert(self.self_attn, "expert_dense", attend(q, k, v, self.heads, True))
        return x + by_expert(self.mlp, "mlp", self.post_attention_layernorm(x))


def positions(kinds: torch.Tensor) -> torch.Tensor:
    """build_position_ids of the published code, for one sequence; kinds: 1 vision."""
    vision = kinds.bool()
    before = torch.cat([torch.tensor([False]), vision[:-1]])
    behind = torch.cat([vision[1:], torch.tensor([False])])
    inner = vision & before & behind
    inner[0] = False
    inner_before = torch.cat([torch.tensor([False]), inner[:-1]])
    steps = ~inner | (inner & ~inner_before)
    steps[0] = False
    return steps.long().cumsum(0)


class Model(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.model.layers = nn.ModuleList(
            [Layer(config) for _ in range(config["num_hidden_layers"])])
        self.model.norm = Rms(config["hidden_size"], config["rms_norm_eps"])
        self.model.vision = Eyes(config)
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def forward(self, input_ids, attention_mask, use_cache, tiles=()):
        ids = input_ids[0]
        x = self.model.embed_tokens(ids)
        kinds = (ids == PAD).long() if tiles else torch.zeros_like(ids)
        if tiles:
            x[kinds.bool()] = torch.cat([self.model.vision(p, grid) for p, grid in tiles])
        vision = kinds.bool()
        seeing = vision & torch.cat([vision[1:], torch.tensor([False])])
        places = positions(kinds)
        for layer in self.model.layers:
            x = layer(x, seeing, places)
        return types.SimpleNamespace(logits=self.lm_head(self.model.norm(x))[None])
