"""One answer: the whole of it, when it is there.   answer.py [ENDPOINT] [PROMPT]"""

import sys

from troupe import Engine

endpoint = sys.argv[1] if len(sys.argv) > 1 else "echo:"
prompt = sys.argv[2] if len(sys.argv) > 2 else "All the world's a stage"
with Engine(endpoint) as engine:
    print(engine.generate(prompt).text)
