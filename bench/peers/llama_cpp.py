#!/usr/bin/env python3
"""llama.cpp as a peer: the same random weights as a Hugging Face folder (f16 safetensors) and as a
GGUF file (f16), and the times that llama.cpp needs for them.

  llama_cpp.py make DIR               writes DIR/hf and DIR/model.gguf (0.46 B Llama shape, seeded)
  llama_cpp.py time DIR [--threads 2] prints one JSON object: prefill, decode and batched decode
  llama_cpp.py compare DIR -- CMD...  runs CMD (which must print the same JSON) and llama.cpp in
                                      turn, and prints the ratios of the medians of the pairs

Needs: pip install llama-cpp-python gguf safetensors numpy
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

# This file has the module's name: its own folder must not be searched for it.
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]

SHAPE = {"vocab": 32000, "hidden": 1280, "inner": 3456, "layers": 22, "heads": 20, "kv_heads": 4,
         "head_dim": 64, "context": 4096, "theta": 10000.0, "eps": 1e-5}
PREFILL = 512
DECODE_STEPS = 64
SEQUENCES = 16


def tensors(seed=7):
    """Name (Hugging Face's) and values of every weight, in file order."""
    s, rng = SHAPE, np.random.default_rng(seed)

    def random(rows, cols):
        return (rng.standard_normal((rows, cols), dtype=np.float32) * 0.02).astype(np.float16)

    ones = np.ones(s["hidden"], np.float16)
    yield "model.embed_tokens.weight", random(s["vocab"], s["hidden"])
    for i in range(s["layers"]):
        at = f"model.layers.{i}."
        kv = s["kv_heads"] * s["head_dim"]
        yield at + "input_layernorm.weight", ones
        yield at + "self_attn.q_proj.weight", random(s["heads"] * s["head_dim"], s["hidden"])
        yield at + "self_attn.k_proj.weight", random(kv, s["hidden"])
        yield at + "self_attn.v_proj.weight", random(kv, s["hidden"])
        yield at + "self_attn.o_proj.weight", random(s["hidden"], s["heads"] * s["head_dim"])
        yield at + "post_attention_layernorm.weight", ones
        yield at + "mlp.gate_proj.weight", random(s["inner"], s["hidden"])
        yield at + "mlp.up_proj.weight", random(s["inner"], s["hidden"])
        yield at + "mlp.down_proj.weight", random(s["hidden"], s["inner"])
    yield "model.norm.weight", ones
    yield "lm_head.weight", random(s["vocab"], s["hidden"])


GGUF_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    fixed = {"model.embed_tokens.weight": "token_embd.weight",
             "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def interleave(rows, heads):
    """GGUF's Llama rotates neighbouring pairs where Hugging Face's rotates halves."""
    n, cols = rows.shape
    return rows.reshape(heads, 2, n // heads // 2, cols).swapaxes(1, 2).reshape(n, cols)


def write_hf(folder):
    from safetensors.numpy import save_file
    folder.mkdir(parents=True, exist_ok=True)
    s = SHAPE
    save_file(dict(tensors()), folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
              "vocab_size": s["vocab"], "hidden_size": s["hidden"], "intermediate_size": s["inner"],
              "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"],
              "num_key_value_heads": s["kv_heads"], "head_dim": s["head_dim"],
              "max_position_embeddings": s["context"], "rope_theta": s["theta"],
              "rms_norm_eps": s["eps"], "hidden_act": "silu", "tie_word_embeddings": False,
              "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    vocab = {token: i for i, token in enumerate(words())}
    special = [{"id": i, "content": words()[i], "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
                 "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
                 "post_processor": None, "decoder": None,
                 "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}))


def words():
    return ["<unk>", "<s>", "</s>"] + [f"w{i}" for i in range(3, SHAPE["vocab"])]


def write_gguf(path):
    import gguf
    s = SHAPE
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_context_length(s["context"])
    out.add_embedding_length(s["hidden"])
    out.add_block_count(s["layers"])
    out.add_feed_forward_length(s["inner"])
    out.add_head_count(s["heads"])
    out.add_head_count_kv(s["kv_heads"])
    out.add_rope_dimension_count(s["head_dim"])
    out.add_rope_freq_base(s["theta"])
    out.add_layer_norm_rms_eps(s["eps"])
    out.add_vocab_size(s["vocab"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_tokenizer_model("llama")
    out.add_token_list(words())
    out.add_token_scores([0.0] * s["vocab"])
    out.add_token_types([gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] +
                        [gguf.TokenType.NORMAL] * (s["vocab"] - 3))
    for name, value in tensors():
        if value.ndim == 1:
            value = value.astype(np.float32)
        elif "q_proj" in name:
            value = interleave(value, s["heads"])
        elif "k_proj" in name:
            value = interleave(value, s["kv_heads"])
        out.add_tensor(gguf_name(name), np.ascontiguousarray(value))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class Peer:
    """llama.cpp's own API, no sampling: argmax of nothing is needed to know what a step costs."""

    def __init__(self, path, threads):
        import llama_cpp as ll
        self.ll = ll
        silent = ll.llama_log_callback(lambda *_: None)
        self.silent = silent
        ll.llama_log_set(silent, ctypes.c_void_p(0))
        ll.llama_backend_init()
        self.model = ll.llama_model_load_from_file(str(path).encode(), ll.llama_model_default_params())
        params = ll.llama_context_default_params()
        params.n_ctx = SEQUENCES * 1024
        params.n_batch = params.n_ubatch = PREFILL
        params.n_seq_max = SEQUENCES
        params.n_threads = params.n_threads_batch = threads
        self.context = ll.llama_init_from_model(self.model, params)
        self.batch = ll.llama_batch_init(PREFILL, 0, 1)

    def step(self, rows):
        """rows: (token, position, sequence, wants logits)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i] = token, position, 1
            b.seq_id[i][0] = sequence
            b.logits[i] = logits
        if self.ll.llama_decode(self.context, b) != 0:
            raise RuntimeError("llama_decode failed")
        self.ll.llama_synchronize(self.context)

    def clear(self):
        self.ll.llama_memory_clear(self.ll.llama_get_memory(self.context), True)

    def prefill(self, sequence=0, n=PREFILL):
        self.step([(3 + i * 7 % 30000, i, sequence, i == n - 1) for i in range(n)])

    def decode(self, sequences, begin, steps):
        for i in range(steps):
            self.step([(100 + i, begin + i, s, True) for s in range(sequences)])


def timed(action, clock):
    start = clock()
    action()
    return clock() - start


def measure(folder, threads, clock):
    peer = Peer(Path(folder) / "model.gguf", threads)
    peer.prefill()  # warm: the file in the page cache, threads awake
    peer.clear()
    prefill = timed(peer.prefill, clock)
    decode = timed(lambda: peer.decode(1, PREFILL, DECODE_STEPS), clock)
    peer.clear()
    for s in range(SEQUENCES):
        peer.prefill(s, 128)
    batched = timed(lambda: peer.decode(SEQUENCES, 128, DECODE_STEPS // 4), clock)
    return {"engine": "llama.cpp", "threads": threads,
            "prefill_tokens_per_s": PREFILL / prefill,
            "decode_tokens_per_s": DECODE_STEPS / decode,
            "batched_decode_tokens_per_s": SEQUENCES * (DECODE_STEPS // 4) / batched,
            "sequences": SEQUENCES, "prefill_length": PREFILL}


def compare(folder, threads, clock, command, pairs):
    ours, theirs = [], []
    for _ in range(pairs):
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        ours.append(json.loads(run.stdout.strip().splitlines()[-1]))
        run = subprocess.run([sys.executable, __file__, "time", folder, "--threads", str(threads),
                              "--clock", clock], check=True, capture_output=True, text=True)
        theirs.append(json.loads(run.stdout.strip().splitlines()[-1]))
    result = {"pairs": pairs, "threads": threads}
    for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "batched_decode_tokens_per_s"):
        ratios = [a[key] / b[key] for a, b in zip(ours, theirs)]
        result[key] = {"ours": statistics.median(a[key] for a in ours),
                       "llama.cpp": statistics.median(b[key] for b in theirs),
                       "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["make", "time", "compare"])
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: CPU seconds, with one thread, where others use the machine too")
    # What stands behind "--" is the other side's command, whatever it looks like.
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    own, command = sys.argv[1:at], sys.argv[at + 1:]
    a = parser.parse_args(own)
    if a.verb == "make":
        write_hf(Path(a.folder) / "hf")
        write_gguf(Path(a.folder) / "model.gguf")
    elif a.verb == "time":
        clock = time.perf_counter if a.clock == "wall" else time.process_time
        print(json.dumps(measure(a.folder, a.threads, clock)))
    else:
        if not command:
            parser.error("compare needs the command of the other side after --")
        print(json.dumps(compare(a.folder, a.threads, a.clock, command, a.pairs), indent=1))


if __name__ == "__main__":
    main()
