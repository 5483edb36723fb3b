"""Training rows: long conversations about drawn scenes as token ids, and the tiles they look at."""

import dataclasses
import random

import numpy
import tokenizers

import conversations
import folder
import labels as labelling
import paint
import questions
import scene as scenes

LEARN = 1 << 15  # set on the tokens of answers; token ids stay below it
TILES_IN_512 = 12
# Training asks more often for what is hard to learn, reading first of all.
EMPHASIS = {"word": 45, "describe": 16, "beside": 22, "bigger": 18, "hand": 5, "arrow": 8}


@dataclasses.dataclass
class Row:
    ids: list
    tiles: list  # arrays of (n, 96, 96, 3)
    labels: list  # arrays of (n, 12, 12, 6), see labels.py
    answers: list  # (kind, first, last) of each whole answer


class RowMaker:
    def __init__(self, tokenizer: tokenizers.Tokenizer, seed: int, held_out: bool = False):
        self.rng = random.Random(seed)
        self.inventor = scenes.Inventor(self.rng, held_out)
        self.asker = conversations.Talker(self.rng)
        if not held_out:
            self.asker.WEIGHTS = {**self.asker.WEIGHTS, **EMPHASIS}
        self.tokenizer, self.cache = tokenizer, {}

    def encode(self, text: str) -> list[int]:
        if text not in self.cache:
            if len(self.cache) > 50_000:
                self.cache.clear()
            self.cache[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.cache[text]

    def picture_ids(self, tiles: int) -> list[int]:
        return [
            folder.ID[folder.IMAGE_BEGIN],
            *[folder.ID[folder.IMAGE]] * (tiles * folder.TILE_TOKENS),
            folder.ID[folder.IMAGE_END],
        ]

    def add(self, row: Row, turn: questions.Turn, length: int) -> bool:
        """Appends a turn if it fits as a whole."""
        cut = [tile_count(s) for s in turn.pictures]
        pictures = [t for n in cut for t in self.picture_ids(n)]
        words = self.encode(turn.question)
        content = words + pictures if turn.pictures_last else pictures + words
        answer = [*self.encode(turn.answer), folder.ID[folder.END]]
        ids = [folder.ID[folder.USER], *content, folder.ID[folder.END], folder.ID[folder.ASSISTANT]]
        if len(row.ids) + len(ids) + len(answer) > length:
            return False
        first = len(row.ids) + len(ids)
        row.ids += ids + [token | LEARN for token in answer]
        row.tiles += [paint.tiles(paint.paint(s)) for s in turn.pictures]
        row.labels += [labelling.labels(s) for s in turn.pictures]
        row.answers.append((turn.kind, first, len(row.ids)))
        return True

    def group(self, room: int, tiles_left: int) -> list[questions.Turn] | None:
        """Turns about one picture or a few that fit into the room left."""
        rng = self.rng
        for _ in range(4):
            pictures = [
                self.inventor.scene() for _ in range(rng.choices([1, 2, 3], [86, 11, 3])[0])
            ]
            tiles = sum(tile_count(s) for s in pictures)
            if tiles <= tiles_left and tiles * folder.TILE_TOKENS + 2 * len(pictures) + 45 <= room:
                count = rng.randint(2, 8)
                if len(pictures) == 1:
                    return self.asker.about_one(pictures[0], count, pictures)
                return self.asker.about_several(pictures, count)
        return None

    def row(self, length: int) -> Row:
        rng, row = self.rng, Row([folder.ID[folder.BEGIN]], [], [], [])
        if rng.random() < 0.1:
            row.ids += [
                folder.ID[folder.SYSTEM],
                *self.encode(rng.choice(questions.SYSTEM_PROMPTS)),
                folder.ID[folder.END],
            ]
        if rng.random() < 0.12:
            for _ in range(rng.randint(1, 3)):
                self.add(row, self.asker.without_picture(self.inventor.scene()), length)
        full, last = False, None
        while not full:
            left = TILES_IN_512 * length // 512 - sum(len(t) for t in row.tiles)
            turns = self.group(length - len(row.ids), left)
            if turns is None:
                break
            last = turns[0].pictures
            full = not all(self.add(row, turn, length) for turn in turns)
        while not full and last:  # no room for one more picture: more about the last
            turn = (
                self.asker.about_one(last[0], 1, [])
                if len(last) == 1
                else self.asker.about_several(last, 1)
            )[0]
            turn.pictures = []
            full = not self.add(row, turn, length)
        row.ids += [folder.ID[folder.PAD]] * (length - len(row.ids))
        return row


def tile_count(drawn: scenes.Scene) -> int:
    columns, rows = drawn.tiles()
    return columns * rows + (columns * rows > 1)


def make_shard(maker: RowMaker, count: int, length: int) -> dict:
    rows = [maker.row(length) for _ in range(count)]
    side, patches = scenes.TILE, labelling.PATCHES
    return {
        "ids": numpy.array([r.ids for r in rows], dtype=numpy.uint16),
        "tiles": numpy.concatenate(
            [numpy.zeros((0, side, side, 3), numpy.uint8), *(t for r in rows for t in r.tiles)]
        ),
        "labels": numpy.concatenate(
            [
                numpy.zeros((0, patches, patches, 6), numpy.uint8),
                *(t for r in rows for t in r.labels),
            ]
        ),
        "counts": numpy.array([sum(len(t) for t in r.tiles) for r in rows]),
        "answers": [r.answers for r in rows],
    }
