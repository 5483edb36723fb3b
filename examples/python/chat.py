"""A streamed chat: tokens are printed as they come.   chat.py [ENDPOINT] < lines"""

import sys

from troupe import Engine

chat = [{"role": "system", "content": "Answer in one sentence."}]
with Engine(sys.argv[1] if len(sys.argv) > 1 else "echo:") as engine:
    for line in sys.stdin:
        chat.append({"role": "user", "content": line.rstrip("\n")})
        answer = ""
        for delta in engine.stream(chat):
            print(delta.text, end="", flush=True)
            answer += delta.text
        print()
        chat.append({"role": "assistant", "content": answer})
