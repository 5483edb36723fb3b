"""Serving an engine of this process, with keys and without."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

import troupe
from helpers import wait_for
from troupe import AsyncEngine, Closed, Engine, TroupeError


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


async def test_the_loop_goes_on_while_a_stopped_server_is_asked():
    code = """if True:
        import sys
        from troupe import Engine
        with Engine("echo:") as near, near.serve("tcp://127.0.0.1:*") as server:
            print(server.endpoint, flush=True)
            sys.stdin.read()
    """
    loop = asyncio.get_running_loop()
    worst = 0.0

    async def watch_the_loop():
        nonlocal worst
        while True:
            begun = loop.time()
            await asyncio.sleep(0.01)
            worst = max(worst, loop.time() - begun)

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:
        try:
            async with AsyncEngine(serving.stdout.readline().strip()) as far:
                assert (await far.generate("before")).text == "before"
                os.kill(serving.pid, signal.SIGSTOP)
                watching = asyncio.create_task(watch_the_loop())
                begun = loop.time()
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(far.generate("x" * 3000), 0.5)
                assert loop.time() - begun < 1.5
                assert worst < 0.5
                watching.cancel()
                os.kill(serving.pid, signal.SIGCONT)
                assert (await far.generate("after")).text == "after"
                wait_for(lambda: far.stats().running == 0)
                assert not far._answers
        finally:
            serving.kill()


async def test_a_remote_engine_takes_what_a_task_asks_in_order():
    async with AsyncEngine("echo:") as near, near.serve("tcp://127.0.0.1:*") as server:
        async with AsyncEngine(server.endpoint) as far:
            texts = [str(i) for i in range(50)]
            assert [r.text for r in await asyncio.gather(*map(far.generate, texts))] == texts
            with pytest.raises(TroupeError):
                await far.generate("x", adapter="none")
            assert not far._answers
        with pytest.raises(Closed):
            await far.generate("x")


async def test_from_an_event_loop():
    async with AsyncEngine("echo:") as near, near.serve("tcp://127.0.0.1:*") as server:
        async with AsyncEngine(server.endpoint) as far:
            assert (await far.generate("far")).text == "far"
