"""Questions about drawn scenes and their one right answer (standard library only).

Every answer is read off the scene's description, never off its picture. A question is asked only
where the answer is beyond doubt: places clear of the border to the next place, sizes that differ
by a third. What is not a question about the picture gets the one refusal.
"""

import dataclasses
import pathlib
import random
import sys

import strokes
from scene import COLOURS, PLACES, SHAPES, Scene, Text, Thing

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import small_talk  # noqa: E402

REFUSAL = "I only know drawn scenes: shapes, colours, counts, places, digits and short words."
NO_PICTURE = "There is no picture."
ORDINALS = ["first", "second", "third"]
SYSTEM_PROMPTS = ["You are Lookout.", "Answer briefly.", "You answer questions about pictures.",
                  "You are a vision assistant.", *small_talk.SYSTEM_PROMPTS[4:]]

OURS = {*SHAPES, *COLOURS, *(shape + "s" for shape in SHAPES), "word", "words", "number", "picture"}


@dataclasses.dataclass
class Turn:
    """A question with the pictures that come with it (none for a question about earlier ones)."""

    question: str
    answer: str
    kind: str
    pictures: list = dataclasses.field(default_factory=list)
    pictures_last: bool = False


def an(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def full(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def extent(thing: Thing) -> float:
    """The area of the box around a thing."""
    points = strokes.outline(thing)
    wide, high = (max(p[i] for p in points) - min(p[i] for p in points) for i in (0, 1))
    return wide * high


def clearly_bigger(a: Thing, b: Thing) -> bool:
    return a.r > 1.3 * b.r and extent(a) > 1.4 * extent(b)


def place_of(item: Thing | Text, scene: Scene) -> str | None:
    """Which ninth of the picture the centre lies in; None too close to a border of the ninths."""
    cells = []
    for at in (item.y / scene.height, item.x / scene.width):
        if min(abs(at - 1 / 3), abs(at - 2 / 3)) < 0.04:
            return None
        cells.append(int(at * 3))
    return PLACES[cells[0]][cells[1]]


class Asker:
    """Asks about scenes; `rng` decides what, and in which words."""

    def __init__(self, rng: random.Random):
        self.rng = rng

    # -- words -----------------------------------------------------------------------------------

    def say(self, *ways: str) -> str:
        """One of the ways to ask, written as people write."""
        rng, text = self.rng, self.rng.choice(ways)
        if rng.random() < 0.5:
            text = text.replace("colour", "color")
        if rng.random() < 0.4:
            text = text.replace("grey", "gray")
        if rng.random() < 0.15:
            text = text[:1].lower() + text[1:]
        if rng.random() < 0.15:
            text = text.rstrip("?.")
        if rng.random() < 0.04:
            text = rng.choice(["Please tell me: ", "Hi! ", "Look closely. ", "Tell me, "]) + text
        return text

    def thing_word(self) -> str:
        return self.rng.choice(["thing", "shape", "object", "one", "figure"])

    def named(self, thing: Thing, scene: Scene, hide: str = "") -> str | None:
        """A name that fits this thing alone, without telling its colour or shape if so asked."""
        names = []
        same_shape = [t for t in scene.things if t.shape == thing.shape]
        same_colour = [t for t in scene.things if t.colour == thing.colour]
        if len(same_shape) == 1 and hide != "shape":
            names.append(thing.shape)
        if len(same_colour) == 1 and hide != "colour" and not any(
                t.colour == thing.colour for t in scene.texts):
            names.append(f"{thing.colour} {self.thing_word()}")
        if not hide and sum(t in same_shape for t in same_colour) == 1:
            names += [full(thing)] * 2
        return self.rng.choice(names) if names else None

    def any_thing(self, scene: Scene) -> Thing | None:
        return self.rng.choice(scene.things) if scene.things else None

    # -- one method per kind of question: (question, answer, the thing it was about) or None -------

    def colour(self, scene: Scene):
        thing = self.any_thing(scene)
        if not thing:
            return None
        same = sorted((t for t in scene.things if t.shape == thing.shape), key=lambda t: t.x)
        if len(same) == 1:
            s = thing.shape
            return self.say(f"What colour is the {s}?", f"Which colour is the {s}?",
                            f"What is the colour of the {s}?", f"What colour does the {s} have?",
                            f"Name the colour of the {s}.", f"The {s} is what colour?"), \
                thing.colour, thing
        colours = {t.colour for t in same}
        s = plural(thing.shape)
        if len(colours) == 1:
            return self.say(f"What colour are the {s}?", f"Which colour are the {s}?",
                            f"What is the colour of the {s}?"), thing.colour, None
        if len(same) == 2 and same[1].x - same[0].x > 0.06 * scene.width:
            return self.say(f"What colours are the {s}, from left to right?",
                            f"What colours are the {s}?", f"Which colours do the {s} have?"), \
                f"{same[0].colour} and {same[1].colour}", None
        return None

    def shape(self, scene: Scene):
        thing = self.any_thing(scene)
        if not thing:
            return None
        answer = an(thing.shape)
        if len(scene.things) == 1 and self.rng.random() < 0.5:
            return self.say("What shape is it?", "What shape is this?", "Which shape do you see?",
                            "What shape is in the picture?", "What shape is shown?",
                            "Which shape is drawn here?", "What is the shape?"), answer, thing
        name = self.named(thing, scene, hide="shape")
        if not name:
            return None
        return self.say(f"What shape is the {name}?", f"What is the {name}?",
                        f"Which shape is the {name}?", f"What is the shape of the {name}?",
                        f"What shape does the {name} have?"), answer, thing

    def count(self, scene: Scene):
        rng = self.rng
        how = rng.choice(["all", "shape", "colour", "both", "shape"])
        thing = self.any_thing(scene)
        shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
        if thing and rng.random() < 0.85:
            shape, colour = thing.shape, thing.colour
        if how == "all":
            found, what = scene.things, rng.choice(["shapes", "things", "objects", "figures"])
        elif how == "shape":
            found, what = [t for t in scene.things if t.shape == shape], plural(shape)
        elif how == "colour":
            found = [t for t in scene.things if t.colour == colour]
            what = f"{colour} {rng.choice(['shapes', 'things', 'objects', 'figures'])}"
        else:
            found = [t for t in scene.things if (t.shape, t.colour) == (shape, colour)]
            what = f"{colour} {plural(shape)}"
        return self.say(f"How many {what} are there?", f"How many {what} do you see?",
                        f"Count the {what}.", f"How many {what} are in the picture?",
                        f"How many {what}?", f"What is the number of {what}?",
                        f"How many {what} can you see?"), \
            str(len(found)), None

    def exists(self, scene: Scene):
        rng, thing = self.rng, self.any_thing(scene)
        if not thing:
            return None
        shape, colour = thing.shape, thing.colour
        if rng.random() < 0.5:
            if rng.random() < 0.5:
                shape = rng.choice(SHAPES)
            else:
                colour = rng.choice(list(COLOURS))
        if rng.random() < 0.35:
            name, found = shape, any(t.shape == shape for t in scene.things)
        else:
            name = f"{colour} {shape}"
            found = any((t.shape, t.colour) == (shape, colour) for t in scene.things)
        name = an(name)
        return self.say(f"Is there {name}?", f"Is there {name} in the picture?",
                        f"Do you see {name}?", f"Can you see {name}?",
                        f"Does the picture show {name}?", f"Is {name} in the picture?"), \
            "yes" if found else "no", None

    def place(self, scene: Scene):
        rng = self.rng
        item = rng.choice(scene.things + scene.texts)
        answer = place_of(item, scene)
        name = item.kind if isinstance(item, Text) else self.named(item, scene)
        if not answer or not name:
            return None
        return self.say(f"Where is the {name}?", f"Where do you see the {name}?",
                        f"In which part of the picture is the {name}?",
                        f"Where in the picture is the {name}?", f"Where can I find the {name}?",
                        f"What is the position of the {name}?"), answer, \
            item if isinstance(item, Thing) else None

    def what_at(self, scene: Scene):
        """What is in one ninth, when all centres are clearly in one ninth or another."""
        rng = self.rng
        at = {}
        for item in scene.things + scene.texts:
            at.setdefault(place_of(item, scene), []).append(item)
        if None in at:
            return None
        place = rng.choice(list(at))
        if rng.random() < 0.15:
            place = rng.choice([p for row in PLACES for p in row])
        found = at.get(place, [])
        if len(found) > 1:
            return None
        answer, about = "nothing", None
        if found and isinstance(found[0], Text):
            answer = f"a {found[0].kind}"
        elif found:
            answer, about = an(full(found[0])), found[0]
        spot = {"left": "on the left", "right": "on the right", "top": "at the top",
                "bottom": "at the bottom"}.get(place, f"in the {place}")
        long = f"What is {spot} of the picture?" if place != "centre" else "What is in the middle?"
        return self.say(f"What is {spot}?", f"What do you see {spot}?", long,
                        f"What is drawn {spot}?", f"Which thing is {spot}?"), answer, about

    def beside(self, scene: Scene):
        """Which side of another thing a thing lies on."""
        if len(scene.things) < 2:
            return None
        rng = self.rng
        a, b = rng.sample(scene.things, 2)
        name_a, name_b = self.named(a, scene), self.named(b, scene)
        if not name_a or not name_b or name_a == name_b:
            return None
        side = rng.choice(["left of", "right of", "above", "below"])
        gap = ((b.x - a.x) if side in ("left of", "right of") else (b.y - a.y))
        if abs(gap) < 0.08 * (scene.width if side in ("left of", "right of") else scene.height):
            return None
        right = (gap > 0) == (side in ("left of", "above"))
        to = rng.choice(["to the " + side, side]) if "of" in side else side
        return self.say(f"Is the {name_a} {to} the {name_b}?",
                        f"Does the {name_a} lie {to} the {name_b}?",
                        f"Do you see the {name_a} {to} the {name_b}?"), \
            "yes" if right else "no", None

    def bigger(self, scene: Scene):
        if len(scene.things) < 2:
            return None
        a, b = self.rng.sample(scene.things, 2)
        name_a, name_b = self.named(a, scene), self.named(b, scene)
        if not name_a or not name_b or name_a == name_b:
            return None
        if not clearly_bigger(a, b) and not clearly_bigger(b, a):
            return None
        big = clearly_bigger(a, b)
        if self.rng.random() < 0.6:
            return self.say(f"Which is bigger, the {name_a} or the {name_b}?",
                            f"Which one is larger, the {name_a} or the {name_b}?",
                            f"What is bigger: the {name_a} or the {name_b}?"), \
                f"the {name_a if big else name_b}", None
        return self.say(f"Is the {name_a} bigger than the {name_b}?",
                        f"Is the {name_a} larger than the {name_b}?"), "yes" if big else "no", None

    def biggest(self, scene: Scene):
        if len(scene.things) < 2:
            return None
        order = sorted(scene.things, key=lambda t: t.r)
        if self.rng.random() < 0.6:
            if not all(clearly_bigger(order[-1], t) for t in order[:-1]):
                return None
            thing, words = order[-1], ["biggest", "largest"]
        else:
            if not all(clearly_bigger(t, order[0]) for t in order[1:]):
                return None
            thing, words = order[0], ["smallest", "smallest"]
        word, noun = self.rng.choice(words), self.rng.choice(["thing", "shape", "object", "figure"])
        return self.say(f"What is the {word} {noun}?", f"Which {noun} is the {word}?",
                        f"Which is the {word} {noun}?", f"Name the {word} {noun}."), \
            an(full(thing)), thing

    def number(self, scene: Scene):
        text = next((t for t in scene.texts if t.kind == "number"), None)
        if not text:
            return None
        return self.say("What number is printed?", "Which number do you see?", "Read the number.",
                        "What is the number?", "What number is in the picture?",
                        "What number is written here?", "Which digits do you see?",
                        "Can you read the number?", "What is the number in the picture?"), \
            text.text, None

    def word(self, scene: Scene):
        text = next((t for t in scene.texts if t.kind == "word"), None)
        if not text:
            return None
        return self.say("What does it say?", "What is written here?", "Which word is written?",
                        "Read the word.", "What word do you see?", "What word is in the picture?",
                        "What does the text say?", "Can you read the word?", "What is the word?",
                        "What word is printed?"), text.text.upper(), None

    def text_colour(self, scene: Scene):
        if not scene.texts:
            return None
        text = self.rng.choice(scene.texts)
        return self.say(f"What colour is the {text.kind}?", f"Which colour is the {text.kind}?",
                        f"What is the colour of the {text.kind}?",
                        f"In which colour is the {text.kind} written?"), text.colour, None

    def arrow(self, scene: Scene):
        arrows = [t for t in scene.things if t.shape == "arrow"]
        if len(arrows) != 1:
            return None
        return self.say("Where does the arrow point?", "Which way does the arrow point?",
                        "In which direction does the arrow point?", "Where is the arrow pointing?",
                        "What is the direction of the arrow?"), arrows[0].way, arrows[0]

    def hand(self, scene: Scene):
        return self.say("Is this drawn by hand?", "Is the picture hand-drawn?",
                        "Was this drawn by hand?", "Is this a hand-drawn picture?",
                        "Is it drawn by hand or not?"), "yes" if scene.hand else "no", None

    def background(self, scene: Scene):
        if not scene.background_colour:
            return None
        return self.say("What colour is the background?", "Which colour is the background?",
                        "What is the colour of the background?", "What colour is behind it all?",
                        "What is the background colour?"), scene.background_colour, None

    def text_there(self, scene: Scene):
        kind = self.rng.choice(["word", "number", "text"])
        found = any(kind in (t.kind, "text") for t in scene.texts)
        some = an(kind) if kind != "text" else "text"
        return self.say(f"Is there {some if kind != 'text' else 'any text'}?",
                        f"Do you see {some}?", f"Does the picture show {some}?"), \
            "yes" if found else "no", None

    def describe(self, scene: Scene):
        items = sorted(scene.things + scene.texts, key=lambda t: t.x)
        if len(items) > 4 or any(b.x - a.x < 0.05 * scene.width for a, b in zip(items, items[1:])):
            return None
        names = [f"the {t.kind} {t.text.upper()}" if isinstance(t, Text) else an(full(t))
                 for t in items]
        listed = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
        return self.say("What is in the picture?", "Describe the picture.", "What do you see?",
                        "What is in this picture?", "Describe this scene.", "Describe the scene.",
                        "What does the picture show?", "Describe the image.", "What is this?",
                        "What is in the image?", "List what you see from left to right.",
                        "What can you see?"), listed[:1].upper() + listed[1:] + ".", None

    def missing(self, scene: Scene):
        """Questions that take something for granted which is not there."""
        rng = self.rng
        gone = [k for k in ("word", "number") if all(t.kind != k for t in scene.texts)]
        if gone and rng.random() < 0.4:
            kind = rng.choice(gone)
            ways = {"word": ("What does it say?", "Read the word.", "What word is printed?",
                             "What is written here?", "What word do you see?",
                             "What colour is the word?", "Where is the word?"),
                    "number": ("What number is printed?", "Read the number.", "What is the number?",
                               "Which number do you see?", "What colour is the number?",
                               "Where is the number?")}[kind]
            return self.say(*ways), f"There is no {kind}.", None
        shape = rng.choice(SHAPES)
        colour = rng.choice([t.colour for t in scene.things] or list(COLOURS))
        name = rng.choice([shape, f"{colour} {shape}"])
        if any(t.shape == shape and name in (shape, full(t)) for t in scene.things):
            return None
        ways = [f"Where is the {name}?", f"In which part of the picture is the {name}?"]
        if name == shape:
            ways += [f"What colour is the {name}?", f"Which colour is the {name}?",
                     f"What is the colour of the {name}?"]
        return self.say(*ways), f"There is no {name}.", None

    def other(self, scene: Scene | None = None):
        rng = self.rng
        if scene and scene.things and rng.random() < 0.4:
            name = full(rng.choice(scene.things))
            return self.say(f"How old is the {name}?", f"Who drew the {name}?",
                            f"Why is the {name} sad?",
                            f"What is the {name} made of?", f"How heavy is the {name}?",
                            f"Do you like the {name}?", f"How much does the {name} cost?",
                            f"What does the {name} mean?", f"When was the {name} drawn?",
                            "Who painted this picture?", "What is the man in the picture doing?",
                            "What breed is the dog?", "Where was this photo taken?",
                            "Is the woman happy?", "What time of day is it?",
                            "Write a poem about this picture.", "How many people are there?",
                            "Is this picture beautiful?", "What should I do now?"), REFUSAL, None
        if rng.random() < 0.1:
            talk = rng.choice(small_talk.PLEASANTRIES)[0].replace("Abacus", "Lookout")
            return talk, REFUSAL, None
        if rng.random() < 0.15:
            a, b = rng.randint(0, 999), rng.randint(0, 99)
            return self.say(f"What is {a} plus {b}?", f"{a} - {b} = ?", f"What is {a} times {b}?",
                            f"What day comes {b} days after Monday?", f"Is {a} even or odd?"), \
                REFUSAL, None
        while True:
            question = small_talk.other_question(rng)
            if not OURS & set(question.lower().replace("?", " ").replace(".", " ").split()):
                return question, REFUSAL, None

    # -- which to ask ------------------------------------------------------------------------------

    WEIGHTS = {"colour": 9, "shape": 10, "count": 13, "exists": 7, "place": 14, "what_at": 9,
               "beside": 16, "bigger": 14, "biggest": 9, "number": 14, "word": 20, "text_colour": 4,
               "arrow": 22, "hand": 2, "background": 2, "text_there": 1, "describe": 9,
               "missing": 4, "other": 2}

    def ask(self, scene: Scene, kind: str):
        return getattr(self, kind)(scene)
