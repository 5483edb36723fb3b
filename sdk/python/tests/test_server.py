"""Serving an engine of this process, with keys and without."""

import pytest

import troupe
from troupe import AsyncEngine, Engine


def test_serving():
    with Engine("echo:") as near, near.serve("tcp://127.0.0.1:*") as server:
        assert server.endpoint.startswith("tcp://127.0.0.1:") and not server.endpoint.endswith("*")
        assert server.endpoint in repr(server)
        with Engine(server.endpoint) as far:
            assert far.generate("from near and far").text == "from near and far"
            assert "serve" in near.info.capabilities and "serve" not in far.info.capabilities
            server.close(drain=1.0)
            server.close()
            assert "closed" in repr(server)
            with pytest.raises(troupe.TroupeError) as caught:
                far.generate("too late")
            assert caught.value.retryable
        assert near.generate("still open").text == "still open"


def test_keys(tmp_path):
    own, friend, stranger = (troupe.keygen() for _ in range(3))
    assert len(own.public) == len(own.secret) == 40 and len({*own, *friend, *stranger}) == 6
    allowed = tmp_path / "clients"
    allowed.write_text(friend.public + "\n")
    with Engine("echo:") as near:
        with near.serve("tcp://127.0.0.1:*", public_key=own.public, secret_key=own.secret, client_keys=allowed) as server:

            def connect(pair):
                return Engine(server.endpoint, server_key=own.public, client_public_key=pair.public,
                              client_secret_key=pair.secret, connect_timeout=2.0)

            with connect(friend) as far:
                assert far.generate("nobody else reads this").text == "nobody else reads this"
            with pytest.raises(troupe.TroupeError):
                connect(stranger)


def test_what_is_refused(tmp_path):
    with Engine("echo:") as near:
        with pytest.raises(troupe.InvalidArgument, match="plaintext"):
            near.serve("tcp://0.0.0.0:*")
        with pytest.raises(troupe.InvalidArgument, match="requests"):
            near.serve("tcp://127.0.0.1:*", settings={"requets": 1})
        with pytest.raises(TypeError):
            near.serve("tcp://127.0.0.1:*", colour="red")


async def test_from_an_event_loop():
    async with AsyncEngine("echo:") as near, near.serve("tcp://127.0.0.1:*") as server:
        async with AsyncEngine(server.endpoint) as far:
            assert (await far.generate("far")).text == "far"
