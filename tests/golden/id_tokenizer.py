"""A tokenizer for models whose prompts are token ids: any vocabulary of the right size will do."""
import json
import pathlib


def write(folder: pathlib.Path, vocab: int) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None, "truncation": None,
        "padding": None, "model": {"type": "WordLevel", "unk_token": "w0",
                                   "vocab": {f"w{i}": i for i in range(vocab)}}}))
