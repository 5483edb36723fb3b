"""The tokenizer of both example models: byte-level pairs, learnt from lines of their own."""

import collections.abc

import tokenizers

pre = tokenizers.pre_tokenizers


def train(lines: list[str], singles: collections.abc.Iterable, vocabulary: int,
          specials: list[str]) -> tokenizers.Tokenizer:
    """What `singles` split off never becomes part of a pair. The first of the specials begins every text;
    their ids are their places."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre.Sequence([*singles, pre.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(lines, tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=specials, show_progress=False,
        initial_alphabet=pre.ByteLevel.alphabet()))
    begin = specials[0]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, 0)])
    return tokenizer
