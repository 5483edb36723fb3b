"""What dev/wheel runs in a bare environment, and what may be run by hand on another machine: an installed
wheel answers from echo:, from a model folder, to a picture, and over its own wire.

    try_wheel.py MODEL PICTURE...
"""

import sys

import troupe
from troupe import Engine, Sampling

with Engine("echo:") as engine:
    assert engine.generate("from the wheel").text == "from the wheel"
    for picture in sys.argv[2:]:
        assert engine.generate("", images=[picture]).text.startswith("[image "), picture
    with engine.serve("tcp://127.0.0.1:*") as server, Engine(server.endpoint) as far:
        assert far.generate("over the wire").text == "over the wire"
with Engine(sys.argv[1]) as engine:
    said = engine.generate("Once upon a time", sampling=Sampling(temperature=0, max_tokens=8))
    assert len(said.tokens) == 8 or said.finish_reason == "stop"
print(f"  {troupe.library_version}; {len(sys.argv) - 2} pictures; the model says {said.text!r}")
