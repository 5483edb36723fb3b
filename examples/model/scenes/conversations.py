"""Conversations about drawn scenes: several questions about a picture, follow-ups, several pictures
in one prompt, and questions with no picture at all (standard library only)."""

from questions import NO_PICTURE, ORDINALS, Asker, Turn, an, place_of
from scene import SHAPES, Scene, Thing


class Talker(Asker):
    """Turns questions into conversations."""

    def any(self, scene: Scene):
        """(kind, question, answer, about) for a kind that this scene allows."""
        while True:
            kind = self.rng.choices(list(self.WEIGHTS), self.WEIGHTS.values())[0]
            made = self.ask(scene, kind)
            if made:
                return kind, *made

    def follow_up(self, scene: Scene, about: Thing):
        """A question with "it"."""
        place = place_of(about, scene)
        pick = self.rng.choice(["colour", "shape", "place"])
        if pick == "place" and place:
            return self.say("Where is it?", "And where is it?", "Where?"), place
        if pick == "shape":
            return self.say("What shape is it?", "And its shape?", "And what shape is it?"), an(
                about.shape
            )
        return self.say(
            "What colour is it?", "And its colour?", "And what colour is it?"
        ), about.colour

    def about_one(self, scene: Scene, count: int, first_pictures: list, prefix=None) -> list[Turn]:
        """Some turns about one picture; the first brings the pictures along."""
        rng, turns, about = self.rng, [], None
        asked = set()
        while len(turns) < count:
            if about is not None and rng.random() < 0.25:
                (question, answer), kind, about = self.follow_up(scene, about), "follow_up", None
            else:
                kind, question, answer, about = self.any(scene)
            if question in asked:
                if len(asked) > 3 and rng.random() < 0.2:
                    break
                continue
            asked.add(question)
            if prefix and kind not in ("other", "follow_up"):
                question = prefix() + question[:1].lower() + question[1:]
                kind = "several"
            turns.append(Turn(question, answer, kind))
        turns[0].pictures, turns[0].pictures_last = first_pictures, rng.random() < 0.15
        return turns

    def in_picture(self, index: int) -> str:
        name = ORDINALS[index]
        return self.rng.choice(
            [
                f"In the {name} picture, ",
                f"Look at the {name} picture: ",
                f"In the {name} image, ",
                f"In picture {index + 1}, ",
                f"{name.capitalize()} picture: ",
            ]
        )

    def compare(self, pair: list[Scene]):
        rng = self.rng
        if rng.random() < 0.5:
            a, b = (len(s.things) for s in pair)
            if a == b:
                return None
            more = rng.random() < 0.6
            question = self.say(
                f"Which picture has {'more' if more else 'fewer'} shapes?",
                f"Which picture shows {'more' if more else 'fewer'} things, the first "
                "or the second?",
            )
            return question, "the first" if (a > b) == more else "the second"
        shape = rng.choice([t.shape for s in pair for t in s.things] or SHAPES)
        a, b = (any(t.shape == shape for t in s.things) for s in pair)
        return self.say(
            f"Which picture shows {an(shape)}?",
            f"Which picture has {an(shape)}?",
            f"In which picture is there {an(shape)}?",
        ), {
            (True, True): "both",
            (True, False): "the first",
            (False, True): "the second",
            (False, False): "neither",
        }[a, b]

    def about_several(self, pictures: list[Scene], count: int) -> list[Turn]:
        turns: list[Turn] = []
        while len(turns) < count:
            made = (
                self.compare(pictures) if len(pictures) == 2 and self.rng.random() < 0.35 else None
            )
            if made:
                turns.append(Turn(*made, "several"))
            else:
                index = self.rng.randrange(len(pictures))
                turns += self.about_one(pictures[index], 1, [], lambda: self.in_picture(index))
        turns[0].pictures, turns[0].pictures_last = pictures, self.rng.random() < 0.15
        return turns

    def without_picture(self, scene: Scene) -> Turn:
        """`scene` only lends its names: nobody sees it."""
        if self.rng.random() < 0.4:
            while True:
                kind, question, _, _ = self.any(scene)
                if kind != "other" and "it" not in question.lower().split():
                    return Turn(question, NO_PICTURE, "no_picture")
        question, answer, _ = self.other()
        return Turn(question, answer, "other")
