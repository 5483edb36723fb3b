#!/usr/bin/env python3
"""Runs the five examples of one language over `echo:` and compares what they print.

    examples/run.py FOLDER [PREFIX ...]

FOLDER holds the programs answer, chat, session, batch and image; PREFIX stands before each (an
interpreter, say), with {} where the program's path goes, if it is not simply in front.
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DISC = os.path.join(HERE, "images", "red_disc.png")

# job: arguments, standard input, what it must print.
JOBS = {
    "answer": (["echo:", "to be or not to be"], "", "to be or not to be\n"),
    "chat": (["echo:"], "hello\nand again\n", "hello\nand again\n"),
    "session": (["echo:"], "", "Once upon a time there was a lamp.\n It was lit.\n"
                " It was broken.\nthe fork holds "),
    "batch": (["echo:"], "",
              "one -> one\ntwo -> two\nthree -> three\nfour -> four\nfive -> five\n"),
    "image": (["echo:", DISC], "", "[image 64x64 png 1002a7cf6ffc635a] What is this?\n"),
}


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, prefix, failed = sys.argv[1], sys.argv[2:], 0
    for job, (arguments, typed, expected) in JOBS.items():
        found = [f for f in os.listdir(folder) if os.path.splitext(f)[0] == job]
        if not found:
            print(f"{job}: not in {folder}")
            failed += 1
            continue
        done = subprocess.run(prefix + [os.path.join(folder, found[0])] + arguments, input=typed,
                              capture_output=True, text=True, check=False, timeout=60)
        holds = done.stdout == expected or (job == "session" and done.stdout.startswith(expected))
        if done.returncode or not holds:
            failed += 1
            print(f"{job}: exit code {done.returncode}\n  expected {expected!r}\n"
                  f"  got      {done.stdout!r}\n  {done.stderr}")
    print(f"{len(JOBS) - failed} of {len(JOBS)} examples print what they must")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
