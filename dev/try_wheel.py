"""What dev/wheel runs in a bare environment, and what may be run by hand on another machine: an installed
wheel answers from echo:, over its own wire, and from the two small models, one of which sees.

    try_wheel.py EXAMPLES      the project's folder of examples
"""

import sys
from pathlib import Path

import troupe
from troupe import Engine, Sampling

examples = Path(sys.argv[1])
picture = examples / "images" / "red_disc.png"
certain = Sampling(temperature=0)

with Engine("echo:") as engine:
    assert engine.generate("from the wheel").text == "from the wheel"
    with engine.serve("tcp://127.0.0.1:*") as server, Engine(server.endpoint) as far:
        assert far.generate("over the wire").text == "over the wire"
with Engine(examples / "model" / "abacus") as engine:
    summed = engine.chat([{"role": "user", "content": "What is 12 + 30?"}], sampling=certain).text
    assert "42" in summed, summed
with Engine(examples / "model" / "lookout") as engine:
    content = [{"type": "image"}, {"type": "text", "text": "What is in the picture?"}]
    seen = engine.chat([{"role": "user", "content": content}], images=[picture], sampling=certain).text
    assert "red" in seen, seen
print(f"  {troupe.library_version}: {summed.strip()} {seen.strip()}")
