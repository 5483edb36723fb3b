"""A batch: all requests run at once, the answers come in order.   batch.py [ENDPOINT]"""

import sys

from troupe import Engine

prompts = ["one", "two", "three", "four", "five"]
with Engine(sys.argv[1] if len(sys.argv) > 1 else "echo:") as engine:
    for prompt, answer in zip(prompts, engine.batch(prompts)):
        print(f"{prompt} -> {answer}")
