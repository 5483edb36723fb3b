"""A session with a fork: one beginning, two ways to go on, and neither repeats its work.   session.py [ENDPOINT]"""

import sys

from troupe import Engine

with Engine(sys.argv[1] if len(sys.argv) > 1 else "echo:") as engine:
    with engine.session() as session:
        print(engine.generate("Once upon a time there was a lamp.", session=session))
        with session.fork() as other:
            print(engine.generate(" It was lit.", session=session))
            print(engine.generate(" It was broken.", session=other))
            print(f"the fork holds {other.state.tokens} tokens")
