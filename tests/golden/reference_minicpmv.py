"""MiniCPM-V 2.6, which transformers does not have: written from the published architecture (its own
modeling code on the hub): SigLIP over slices of any grid with NaViT positions, a perceiver of
learnt queries whose keys carry sines and cosines of their place, Qwen2."""

import math

import torch
import transformers
from torch import nn
from transformers.models.idefics3 import configuration_idefics3, modeling_idefics3


def waves(width: int, places: torch.Tensor) -> torch.Tensor:
    steps = torch.arange(width // 2, dtype=torch.float32) / (width / 2.0)
    angles = places.float()[:, None] * (1.0 / 10000 ** steps)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Resampler(nn.Module):
    def __init__(self, count: int, width: int, hidden: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(count, width))
        self.kv_proj = nn.Linear(hidden, width, bias=False)
        self.attn = nn.MultiheadAttention(width, max(1, width // 128))
        self.ln_q = nn.LayerNorm(width, eps=1e-6)
        self.ln_kv = nn.LayerNorm(width, eps=1e-6)
        self.ln_post = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Parameter(torch.zeros(width, width))

    def forward(self, rows: torch.Tensor, high: int, wide: int) -> torch.Tensor:
        rows = self.ln_kv(self.kv_proj(rows))
        width = rows.shape[-1]
        down, across = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
        place = torch.cat([waves(width // 2, across.flatten()), waves(width // 2, down.flatten())],
                          dim=-1)
        seen, _ = self.attn(self.ln_q(self.query)[:, None], (rows + place)[:, None],
                            rows[:, None])
        return self.ln_post(seen[:, 0]) @ self.proj


class Model(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        vision = configuration_idefics3.Idefics3VisionConfig(
            **{k: v for k, v in config["vision_config"].items() if k != "model_type"},
            attn_implementation="eager")
        self.vpm = modeling_idefics3.Idefics3VisionTransformer(vision)
        text = {k: v for k, v in config.items() if k not in ("vision_config", "model_type",
                                                            "architectures", "version")}
        self.llm = transformers.Qwen2ForCausalLM(
            transformers.Qwen2Config(**text, attn_implementation="eager"))
        self.resampler = Resampler(config["query_num"], config["hidden_size"], vision.hidden_size)
        self.side = vision.image_size // vision.patch_size

    def look(self, patches: torch.Tensor, grid: tuple) -> torch.Tensor:
        _, high, wide = grid
        bounds = torch.arange(1 / self.side, 1.0, 1 / self.side)
        down, across = (torch.bucketize(torch.arange(0, 1 - 1e-6, 1 / n), bounds, right=True)
                        for n in (high, wide))
        places = (down[:, None] * self.side + across).flatten()
        kernel = self.vpm.embeddings.patch_embedding
        rows = patches @ kernel.weight.flatten(1).T + kernel.bias
        rows = rows + self.vpm.embeddings.position_embedding(places)
        rows = self.vpm.encoder(inputs_embeds=rows[None], attention_mask=None).last_hidden_state
        return self.resampler(self.vpm.post_layernorm(rows)[0], high, wide)

    def forward(self, input_ids, attention_mask, use_cache, tiles=()):
        rows = self.llm.model.embed_tokens(input_ids)
        if tiles:
            seen = torch.cat([self.look(patches, grid) for patches, grid in tiles])
            rows[0, input_ids[0] == 3] = seen
        return self.llm(inputs_embeds=rows, attention_mask=attention_mask, use_cache=False)


assert math.isclose(waves(4, torch.tensor([1]))[0, 0].item(), math.sin(1), rel_tol=1e-6)
