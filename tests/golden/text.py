#!/usr/bin/env python3
"""Golden files of the text room: tokenizers and chat templates as the reference does them.

    python tests/golden/text.py        # writes tests/golden/text/

Everything is made here: the corpus, the vocabularies trained on it, the templates (in
tests/golden/text/templates/, our own, imitating what templates of real models do). The answers come
from transformers, tokenizers, sentencepiece and tiktoken; their versions are recorded.
"""
import base64
import json
import os
import random
import shutil
import tempfile
import time
import unicodedata
from pathlib import Path

os.environ["TZ"] = "UTC"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # training in parallel is not deterministic
os.environ["RAYON_NUM_THREADS"] = "1"
time.tzset()

import jinja2  # noqa: E402
import sentencepiece  # noqa: E402
import tiktoken  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers  # noqa: E402
from tokenizers import pre_tokenizers, processors, trainers  # noqa: E402
from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: E402

HERE = Path(__file__).resolve().parent / "text"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

WORDS = """the quick brown fox jumps over a lazy dog how are you today numbers 12 345 678 90 and more of
them hello world this is small text for tokenizers don't we'll I'd they're it's Zürich liegt in der
Schweiz el niño come pan où est la bibliothèque 日本 の 東京 は 大きい です 你好 世界 мир привет γειά
def function(x): return x + 1 ; { "key": [1, 2.5, null] } user assistant system tool""".split()

TEXTS = [
    "", " ", "   ", "hello world", " hello", "  hello  world ", "Hello, world!", "hello\n\nworld\tx\r\ny",
    "don't we'LL I'D they're it'S", "1234567 3.14159 0x1F 1,000,000", "Zürich niño bibliothèque",
    "e\u0301 vs \u00e9, A\u030a n\u0303", "日本の東京は大きいです。你好，世界！", "мир привет γειά",
    "😀 👨‍👩‍👧 🏳️‍🌈 👍🏽", "a\u200bb\u00a0c\u3000d\ufeffe", "ﬁ ① ² ½ Ⅷ", "\t\t\tindented\n    four",
    "def f(x):\n    return {'a': [1, 2.5, None]}\n\n\n", "▁under▁score", "trailing   ", "\n", "\n\n\n\n",
    "a" * 200, "ab " * 120, "日" * 60, "x\x00y\x01\x7f", "\U0001F600" * 5, "supercalifragilistic",
    "مرحبا بالعالم שלום", "ไทยภาษา हिन्दी", "mixed 日本 and English 12 and é!", "...!!!???---___", "</s", "<s",
]


def special_texts(specials):
    a, b = specials[0], specials[-1]
    return [a, f"{a}hello", f"hello{a}", f"hello {a} world", f"{a}{b}", f"{a} {b} ", f"hi\n{b}\nthere",
            f"{a[:-1]}", f"x{a}{a}{b}y", f"  {b}  "]


def corpus():
    rng = random.Random(7)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 14))) for _ in range(2500)]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, ensure_ascii=True, separators=(",", ":")) + "\n")


def random_ids(size, seed):
    rng = random.Random(seed)
    lists = [[rng.randrange(size) for _ in range(n)] for n in (1, 1, 2, 3, 5, 8, 13, 21, 40, 80) * 3]
    return lists


class Folder:
    """One tokenizer folder with its cases: encode(text) -> ids plain and with special tokens around,
    decode(ids) with and without special tokens."""

    def __init__(self, name, specials):
        self.path = HERE / "tokenizers" / name
        self.specials = specials
        self.path.mkdir(parents=True)

    def record(self, encode, encode_special, decode, size, texts=None, literal=None):
        texts = TEXTS + special_texts(self.specials) if texts is None else texts
        cases = []
        for text in texts:
            case = {"text": text, "ids": encode(text), "with_special": encode_special(text)}
            if literal:
                case["literal"] = literal(text)
            cases.append(case)
        decodes = []
        for ids in [c["ids"] for c in cases] + random_ids(size, 3):
            decodes.append({"ids": ids, "text": decode(ids, False), "skipped": decode(ids, True)})
        write(self.path / "cases.json", {"vocab_size": size, "encode": cases, "decode": decodes})


def record_reference(name, specials, make, literal=True, texts=None):
    """A folder that transformers loads by itself."""
    folder = Folder(name, specials)
    make(folder.path)
    tok = AutoTokenizer.from_pretrained(folder.path)

    def as_text(text):
        return tok(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    folder.record(lambda t: tok.encode(t, add_special_tokens=False), tok.encode,
                  lambda ids, skip: tok.decode(ids, skip_special_tokens=skip), len(tok), texts,
                  as_text if literal else None)
    return folder


# ---- byte-level BPE -----------------------------------------------------------------------------


def train_byte_level(pre, specials, size):
    tok = Tokenizer(models.BPE(ignore_merges=pre is not None))
    if pre is None:
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tok.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pre), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def gpt2(path):
    tok = train_byte_level(None, ["<|endoftext|>"], 450)
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|endoftext|>", eos_token="<|endoftext|>",
                            unk_token="<|endoftext|>").save_pretrained(path)


LLAMA3_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                   "<|eot_id|>"]


def llama3(path):
    tok = train_byte_level(LLAMA3, [], 480)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in LLAMA3_SPECIALS])
    tok.add_tokens([AddedToken("<tool call>", special=False, normalized=True),
                    AddedToken("<mask>", special=True, lstrip=True), AddedToken("<nl>", rstrip=True)])
    bos = LLAMA3_SPECIALS[0]
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                      special_tokens=[(bos, tok.token_to_id(bos))])])
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=bos, eos_token=LLAMA3_SPECIALS[4],
                            clean_up_tokenization_spaces=True).save_pretrained(path)


def added_elsewhere(path):
    """tokenizer_config.json knows tokens that tokenizer.json does not."""
    gpt2(path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    config.update(pad_token="<|pad|>", additional_special_tokens=["<|user|>", "<|bot|>"])
    (path / "tokenizer_config.json").write_text(json.dumps(config))


# ---- SentencePiece ------------------------------------------------------------------------------


def train_sentencepiece(model_type, size, **options):
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)  # the model records the paths it was made with
        try:
            Path("corpus.txt").write_text("\n".join(corpus()) + "\n")
            sentencepiece.SentencePieceTrainer.train(
                input="corpus.txt", model_prefix="m", vocab_size=size, model_type=model_type,
                byte_fallback=True, num_threads=1, minloglevel=2, **options)
            return Path("m.model").read_bytes()
        finally:
            os.chdir(here)


LLAMA_OPTIONS = dict(normalization_rule_name="identity", remove_extra_whitespaces=False,
                     split_digits=True, allow_whitespace_only_pieces=True)
LLAMA_CONFIG = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
                "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False}


def model_folder(path, model, config):
    (path / "tokenizer.model").write_bytes(model)
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    if config:
        (path / "tokenizer_config.json").write_text(json.dumps(config))


def record_llama_models():
    model = train_sentencepiece("bpe", 520, **LLAMA_OPTIONS)
    plain = sentencepiece.SentencePieceProcessor(model_proto=model)
    specials = ["<s>", "</s>"]
    for name, extra in [("spm_legacy", {"legacy": True}), ("spm", {"legacy": False}),
                        ("spm_eos", {"legacy": False, "add_eos_token": True, "added_tokens_decoder": {
                            "0": {"content": "<unk>", "special": True},
                            "1": {"content": "<s>", "special": True},
                            "2": {"content": "</s>", "special": True},
                            "520": {"content": "<|im_start|>", "special": True},
                            "521": {"content": "<|im_end|>", "special": True},
                            "522": {"content": "<think>", "special": False}}})]:
        folder = Folder(name, specials)
        model_folder(folder.path, model, {**LLAMA_CONFIG, **extra})
        tok = AutoTokenizer.from_pretrained(folder.path)
        texts = TEXTS + special_texts(specials)
        if name == "spm_eos":
            texts = TEXTS + special_texts(["<|im_start|>", "<|im_end|>"]) + ["<think>so</think>"]

        # In front of text that begins with a space the reference's new pipeline leaves out the space
        # that the model itself (and the reference until version 4) puts there: the model decides.
        def encode(text, tok=tok):
            ids = tok.encode(text, add_special_tokens=False)
            if text.startswith((" ", "▁")) and not any(s in text for s in specials + ["<|im"]):
                return plain.encode(text)
            return ids

        def around(text, tok=tok, encode=encode):
            eos = [2] if tok.add_eos_token else []
            return [1] + encode(text) + eos

        texts = [t for t in texts if not (t.startswith(" ") and any(s in t for s in specials + ["<|im"]))]
        if extra["legacy"]:
            texts = [t for t in texts if not any(s + " " in t for s in specials)]
        folder.record(encode, around, lambda ids, skip, tok=tok: tok.decode(ids, skip_special_tokens=skip),
                      len(tok), texts)


def record_unigram_model():
    model = train_sentencepiece("unigram", 420)
    plain = sentencepiece.SentencePieceProcessor(model_proto=model)
    folder = Folder("spm_unigram", ["<s>", "</s>"])
    model_folder(folder.path, model, None)

    def decode(ids, skip):
        pieces = [plain.id_to_piece(i) for i in ids if i < plain.get_piece_size() and not (skip and i < 3)]
        steps = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
        return steps.decode(pieces)

    folder.record(plain.encode, plain.encode, decode, plain.get_piece_size(), TEXTS)


def llama_json(path):
    with tempfile.TemporaryDirectory() as tmp:
        model_folder(Path(tmp), train_sentencepiece("bpe", 500, **LLAMA_OPTIONS), {**LLAMA_CONFIG, "legacy": False})
        AutoTokenizer.from_pretrained(tmp).save_pretrained(path)
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))


def llama_json_old(path):
    """As the reference wrote it until version 4: the prefix in the normalizer."""
    llama_json(path)
    file = json.loads((path / "tokenizer.json").read_text())
    file["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    file["pre_tokenizer"] = None
    (path / "tokenizer.json").write_text(json.dumps(file))
    config = {**LLAMA_CONFIG, "legacy": False}
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def gemma_json(path):
    llama_json(path)
    tok = Tokenizer.from_file(str(path / "tokenizer.json"))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.pre_tokenizer = None
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    for file in path.iterdir():
        file.unlink()
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>",
                            unk_token="<unk>").save_pretrained(path)


def letters_and_words(mark, continuing):
    """A vocabulary without a trainer (those of the library differ from run to run): every character of
    the corpus, and its words."""
    letters = sorted({c for word in WORDS for c in word})
    return letters + [continuing + c for c in letters if continuing] + [mark + w for w in sorted(set(WORDS))]


def unigram_json(path):
    vocab = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -3.0)]
    vocab += [(piece, -2.0 - 0.01 * i) for i, piece in enumerate(letters_and_words("▁", ""))]
    tok = Tokenizer(models.Unigram(vocab, unk_id=0))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    tok.add_special_tokens(["<s>", "</s>", "<unk>"])
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>",
                            unk_token="<unk>").save_pretrained(path)


def wordpiece_json(path):
    """A decoder that only the library itself can run."""
    words = ["[UNK]", "[CLS]", "[SEP]"] + letters_and_words("", "##")
    tok = Tokenizer(models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=False)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]").save_pretrained(path)


# ---- tiktoken -----------------------------------------------------------------------------------


def byte_ranks(size):
    tok = train_byte_level(LLAMA3, [], size)
    alphabet = {}
    for byte in range(256):  # the printable stand-ins of byte-level vocabularies
        keep = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF
        alphabet[chr(byte) if keep else chr(256 + sum(1 for b in range(byte) if not (
            0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b <= 0xFF)))] = byte
    return {bytes(alphabet[c] for c in token): rank for token, rank in tok.get_vocab().items()}


def write_ranks(path, ranks):
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    path.write_bytes(b"".join(lines))


def record_qwen(name, vision):
    ranks = byte_ranks(460)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)]
    if vision:
        names += ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>"]
    specials = {token: len(ranks) + i for i, token in enumerate(names)}
    enc = tiktoken.Encoding("q", pat_str=QWEN, mergeable_ranks=ranks, special_tokens=specials)
    folder = Folder(name, names[1:3] + names[-1:])
    write_ranks(folder.path / "qwen.tiktoken", ranks)
    config = {"model_type": "qwen", **({"visual": {}} if vision else {})}
    (folder.path / "config.json").write_text(json.dumps(config))
    (folder.path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "QWenTokenizer"}))

    def encode(text):
        return enc.encode(unicodedata.normalize("NFC", text), allowed_special="all")

    def decode(ids, skip):
        return enc.decode([i for i in ids if not (skip and i >= len(ranks))], errors="replace")

    def literal(text):
        return enc.encode(unicodedata.normalize("NFC", text), disallowed_special=())

    folder.record(encode, encode, decode, enc.n_vocab, None, literal)


def record_glm4():
    ranks = byte_ranks(460)
    names = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
             "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>"]
    specials = {token: len(ranks) + i for i, token in enumerate(names)}
    enc = tiktoken.Encoding("g", pat_str=LLAMA3, mergeable_ranks=ranks, special_tokens=specials)
    folder = Folder("glm4", ["<|user|>", "<|assistant|>"])
    write_ranks(folder.path / "tokenizer.model", ranks)
    (folder.path / "config.json").write_text(json.dumps({"model_type": "chatglm"}))
    (folder.path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "ChatGLM4Tokenizer", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "additional_special_tokens": names,
        "added_tokens_decoder": {str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                          "single_word": False, "special": True} for t, i in specials.items()}}))

    def encode(text):
        return enc.encode(text, allowed_special="all")

    def decode(ids, skip):
        return enc.decode([i for i in ids if not (skip and i >= len(ranks))], errors="replace")

    folder.record(encode, lambda t: [specials["[gMASK]"], specials["<sop>"]] + encode(t), decode, enc.n_vocab)


# ---- chat templates -----------------------------------------------------------------------------


def record_templates():
    import importlib.util

    spec = importlib.util.spec_from_file_location("text_chats", HERE.parent / "text_chats.py")
    chats = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chats)
    write(HERE / "templates.json", chats.cases(HERE / "templates", HERE.parents[2] / "text" / "templates"))


def main():
    for name in ("tokenizers", "templates.json", "versions.json"):
        path = HERE / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    record_reference("gpt2", ["<|endoftext|>"], gpt2)
    record_reference("llama3", LLAMA3_SPECIALS + ["<tool call>", "<nl>", "<mask>"], llama3)
    record_reference("added_elsewhere", ["<|user|>", "<|pad|>"], added_elsewhere)
    record_reference("llama_json", ["<s>", "</s>"], llama_json)
    record_reference("llama_json_old", ["<s>", "</s>"], llama_json_old)
    record_reference("gemma_json", ["<s>", "</s>"], gemma_json)
    record_reference("unigram_json", ["<s>", "</s>"], unigram_json)
    record_reference("wordpiece_json", ["[CLS]", "[SEP]"], wordpiece_json)
    record_llama_models()
    record_unigram_model()
    record_qwen("qwen", False)
    record_qwen("qwen_vl", True)
    record_glm4()
    record_templates()
    write(HERE / "versions.json", {m.__name__: m.__version__ for m in (
        transformers, tokenizers, sentencepiece, tiktoken, jinja2)})


if __name__ == "__main__":
    main()
