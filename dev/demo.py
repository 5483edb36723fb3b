"""Draws a scene that training never saw, asks Lookout about it and checks the answers: what dev/demo
does once the command is built. Standard library only."""

import argparse
import os
import pathlib
import secrets
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "examples/model/scenes"))
import draw  # noqa: E402
import raster  # noqa: E402

MODEL = ROOT / "examples/model/lookout"
# What the demo asks by itself: the kinds that Lookout's README measures as its surest.
SUREST = ["colour", "shape", "place", "exists", "text_colour", "background", "biggest", "arrow"]
WIDE = 400  # the widest picture: wider ones take the standard library seconds to draw


def terminal(code: str) -> str:
    return code if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else ""


BOLD, DIM, PLAIN = terminal("\x1b[1m"), terminal("\x1b[2m"), terminal("\x1b[0m")


def fail(why: str) -> None:
    sys.exit(f"demo: {why}")


class Chat:
    """`troupe chat`, spoken to through pipes: a question is a line, and so is an answer."""

    def __init__(self, command: pathlib.Path):
        # Its stderr has one line after each answer (--timings), or what went wrong.
        self.process = subprocess.Popen(
            [command, "chat", MODEL, "--temperature", "0", "--timings"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def tell(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def show(self, picture: pathlib.Path) -> None:
        self.tell(f"/image {picture}")
        said = self.process.stderr.readline().decode()
        if "attached" not in said:
            fail(said.strip() or "the command ended before it took a picture")

    def ask(self, question: str) -> tuple[str, str]:
        """The answer, printed as it comes, and where its time went."""
        self.tell(question)
        answer = b""
        while not answer.endswith(b"\n"):
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                fail("the command ended in the middle of an answer: " +
                     self.process.stderr.read().decode().strip())
            answer += piece
            sys.stdout.write(piece.decode(errors="replace"))
            sys.stdout.flush()
        return answer.decode(errors="replace").strip(), self.process.stderr.readline().decode().strip()

    def close(self) -> None:
        self.process.stdin.close()
        if self.process.wait(timeout=30) != 0:
            fail(f"the command ended with code {self.process.returncode}: " +
                 self.process.stderr.read().decode().strip())


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev/demo", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--seed", type=int, help="the same seed draws the same scene")
    parser.add_argument("--questions", type=int, default=3, help="how many to ask (default 3)")
    parser.add_argument("--kind", action="append", choices=sorted(draw.questions.Asker.WEIGHTS),
                        help="ask such questions; may be given several times")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/demo/scene.png",
                        help="where the picture goes")
    parser.add_argument("--troupe", type=pathlib.Path, default=ROOT / "build/release/bin/troupe",
                        help="the command")
    options = parser.parse_args()
    options.kind = options.kind or SUREST
    options.questions = min(options.questions, len(set(options.kind)))
    if options.questions < 1:
        parser.error("--questions must be at least 1")
    return options


def next_steps(command: str, seed: int) -> str:
    return f"""
Lookout is our own: 7 million parameters, 14 MB. It knows drawn scenes and nothing else, and is right
about 97 times in 100 (examples/model/README.md says by kind). This was scene {seed} (--seed {seed}).
Next:
  a picture of yours   {command} chat examples/model/lookout     # then: /image FILE, and a question
  your own model       {command} chat YOUR/MODEL/FOLDER          # as downloaded; `inspect` says if it fits
  from Python          dev/wheel && python3 -m pip install dist/troupe-*.whl && python3 -c '
      from troupe import Engine
      with Engine("examples/model/lookout") as engine:
          print(engine.chat([{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text",
                "text": "What is in the picture?"}}]}}], images=["build/demo/scene.png"]))'"""


def main() -> None:
    options = read_options()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    start = time.monotonic()
    chat = Chat(options.troupe)  # opens the model while the scene is being drawn
    scene, asked = draw.drawn(seed, options.kind, options.questions, WIDE)
    rows = raster.draw(scene)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(raster.png(rows))
    drawn = time.monotonic()
    print(raster.blocks(rows, 64, colour=bool(PLAIN)), end="")
    print(f"{DIM}{options.out}: {scene.width} x {scene.height}, drawn in {drawn - start:.2f} s{PLAIN}\n")
    chat.show(options.out)
    wrong = 0
    for _, question, expected in asked:
        print(f"{BOLD}you:{PLAIN} {question}\n{BOLD}troupe:{PLAIN} ", end="", flush=True)
        answer, figures = chat.ask(question)
        print(f"{DIM}{figures}{PLAIN}")
        if answer != expected:
            wrong += 1
            print(f"{BOLD}That was wrong:{PLAIN} it should have said {expected!r}.")
    chat.close()
    print(f"\n{len(asked) - wrong} of {len(asked)} right, {time.monotonic() - start:.1f} s in all.")
    if wrong:
        fail(f"{wrong} of {len(asked)} answers about scene {seed} are wrong (dev/demo --seed {seed})")
    print(next_steps("build/release/bin/troupe", seed))


if __name__ == "__main__":
    main()
