"""A question about an image.   image.py [ENDPOINT] FILE"""

import sys

from troupe import Engine

if len(sys.argv) < 2:
    sys.exit("usage: image.py [ENDPOINT] FILE: a JPEG, PNG or WebP")
with Engine(sys.argv[1] if len(sys.argv) > 2 else "echo:") as engine:
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is this?"}]}]
    print(engine.chat(question, images=[sys.argv[-1]]))
