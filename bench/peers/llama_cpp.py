#!/usr/bin/env python3
"""llama.cpp as a peer: the same random weights as a Hugging Face folder (f16 safetensors) and as a
GGUF file (f16), and the times that both sides need for the same work, in turn.

  llama_cpp.py make DIR                 writes DIR/hf and DIR/model.gguf (0.46 B Llama shape, seeded)
  llama_cpp.py compare DIR -- CMD...    CMD and llama.cpp in turn; prints the medians of the pairs
  llama_cpp.py compare DIR --troupe BIN the same with the whole engine: BIN bench latency DIR/hf
  llama_cpp.py serve DIR                llama.cpp's side of it, for other harnesses

A side is a process that reads names of work from stdin (prefill, decode, batched), does one, and
answers with {"tokens": n, "seconds": s} on stdout: it is started once, so that a comparison spends
its time on the work. CMD is such a side: build/release/bench/cpu_llama_shape --serve.

On a quiet machine use two threads and the wall clock (the defaults). Where others use the machine too:
--threads 1 --clock cpu, and give CMD the same.

Needs: pip install llama-cpp-python gguf safetensors numpy
"""

import argparse
import ctypes
import json
import select
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
DECODE_STEPS = 24   # at batch 1, behind the prefill
SEQUENCES = 16
BATCHED_PAST = 64   # tokens of each of the 16
BATCHED_STEPS = 8
WORKS = ("prefill", "decode", "batched")


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
        self.silent = ll.llama_log_callback(lambda *_: None)
        ll.llama_log_set(self.silent, ctypes.c_void_p(0))
        ll.llama_backend_init()
        self.model = ll.llama_model_load_from_file(str(path).encode(), ll.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"{path}: llama.cpp cannot load it; write it with: llama_cpp.py make DIR")
        # A context each, so that neither sees the other's cache.
        self.alone = self.context(1, threads)
        self.many = self.context(SEQUENCES, threads)
        self.batch = ll.llama_batch_init(PREFILL, 0, 1)
        for s in range(SEQUENCES):
            self.step(self.many, [(3 + i, i, s, False) for i in range(BATCHED_PAST)])
        self.prefill()  # warm: the file in the page cache, threads awake

    def context(self, sequences, threads):
        params = self.ll.llama_context_default_params()
        params.n_ctx = sequences * 1024
        params.n_batch = params.n_ubatch = PREFILL
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        return self.ll.llama_init_from_model(self.model, params)

    def step(self, context, rows):
        """rows: (token, position, sequence, wants logits)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i] = token, position, 1
            b.seq_id[i][0] = sequence
            b.logits[i] = logits
        if self.ll.llama_decode(context, b) != 0:
            raise RuntimeError("llama_decode failed")
        self.ll.llama_synchronize(context)

    def forget(self, context, sequences, position):
        for s in range(sequences):
            self.ll.llama_memory_seq_rm(self.ll.llama_get_memory(context), s, position, -1)

    def prefill(self):
        self.forget(self.alone, 1, 0)
        self.step(self.alone, [(3 + i * 7 % 30000, i, 0, i == PREFILL - 1) for i in range(PREFILL)])
        return PREFILL

    def decode(self):
        self.forget(self.alone, 1, PREFILL)
        for i in range(DECODE_STEPS):
            self.step(self.alone, [(100 + i, PREFILL + i, 0, True)])
        return DECODE_STEPS

    def batched(self):
        self.forget(self.many, SEQUENCES, BATCHED_PAST)
        for i in range(BATCHED_STEPS):
            self.step(self.many, [(100 + i, BATCHED_PAST + i, s, True) for s in range(SEQUENCES)])
        return SEQUENCES * BATCHED_STEPS


def serve(folder, threads, clock):
    peer = Peer(Path(folder) / "model.gguf", threads)
    for line in sys.stdin:
        start = clock()
        tokens = getattr(peer, line.strip())()
        print(json.dumps({"tokens": tokens, "seconds": clock() - start}), flush=True)


class Side:
    """A process that does work by name; see the top of this file."""

    def __init__(self, command, patience):
        self.command, self.patience = command, patience
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def rate(self, work):
        try:
            self.process.stdin.write(work.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise SystemExit(f"{' '.join(self.command)}: ended early") from None
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            raise SystemExit(f"{' '.join(self.command)}: no answer to '{work}' in {self.patience} s")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.command)}: ended instead of doing '{work}'")
        answer = json.loads(line)
        return answer["tokens"] / answer["seconds"]

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Engine:
    """The whole engine, through its command: loads anew each time, measures only the work."""

    def __init__(self, binary, folder, threads):
        self.start = [binary, "bench", "latency", str(Path(folder) / "hf"), "--threads", str(threads),
                      "--repeats", "1", "--json"]

    def rate(self, work):
        shape = {"prefill": ["--in", str(PREFILL), "--out", "2", "--batch", "1"],
                 "decode": ["--in", str(PREFILL), "--out", str(DECODE_STEPS + 1), "--batch", "1"],
                 "batched": ["--in", str(BATCHED_PAST), "--out", str(BATCHED_STEPS + 8), "--batch",
                             str(SEQUENCES)]}[work]
        run = subprocess.run(self.start + shape, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"{' '.join(self.start + shape)}: {run.stderr.strip()}")
        figures = json.loads(run.stdout.strip().splitlines()[-1])["figures"][0]
        return figures["prefill_tokens_per_s" if work == "prefill" else "decode_tokens_per_s"]

    def close(self):
        pass


def compare(ours, theirs, pairs, works):
    rates = {work: [] for work in works}
    try:
        for side in (ours, theirs):
            side.rate(works[0])  # not counted: until it answers, a side still loads and takes cores
        for i in range(pairs):
            for work in works:
                sides = [ours, theirs] if i % 2 == 0 else [theirs, ours]
                by_side = {side: side.rate(work) for side in sides}
                rates[work].append((by_side[ours], by_side[theirs]))
                a, b = rates[work][-1]
                print(f"pair {i + 1} of {pairs}, {work}: {a:.1f} and {b:.1f} tokens/s, ratio {a / b:.3f}",
                      file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("stopped; the figures are of the pairs until here", file=sys.stderr)
    finally:
        ours.close()
        theirs.close()
    result = {}
    for work, found in rates.items():
        if found:
            ratios = [a / b for a, b in found]
            result[work] = {"pairs": len(found), "ours": statistics.median(a for a, _ in found),
                            "llama.cpp": statistics.median(b for _, b in found),
                            "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["make", "serve", "compare"])
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--works", default=",".join(WORKS), help="some of " + ", ".join(WORKS))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: CPU seconds of the process, where others use the machine too")
    parser.add_argument("--troupe", help="the command, to measure the whole engine")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to wait for one work")
    # What stands behind "--" is the other side's command, whatever it looks like.
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    own, command = sys.argv[1:at], sys.argv[at + 1:]
    a = parser.parse_args(own)
    works = a.works.split(",")
    if not set(works) <= set(WORKS):
        parser.error(f"--works takes some of {', '.join(WORKS)}")
    if a.verb == "make":
        write_hf(Path(a.folder) / "hf")
        write_gguf(Path(a.folder) / "model.gguf")
    elif a.verb == "serve":
        serve(a.folder, a.threads, time.perf_counter if a.clock == "wall" else time.process_time)
    else:
        if bool(command) == bool(a.troupe):
            parser.error("compare needs --troupe BIN, or the command of the other side after --")
        if a.troupe and a.clock == "cpu":
            parser.error("--troupe measures by the wall clock")
        theirs = Side([sys.executable, __file__, "serve", a.folder, "--threads", str(a.threads),
                       "--clock", a.clock], a.patience)
        ours = Engine(a.troupe, a.folder, a.threads) if a.troupe else Side(command, a.patience)
        result = {"threads": a.threads, "clock": a.clock}
        print(json.dumps(result | compare(ours, theirs, a.pairs, works), indent=1))


if __name__ == "__main__":
    main()
