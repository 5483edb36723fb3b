"""Signals, forks, and the end of a process with work in flight."""

from helpers import run_python


def test_an_interrupt_leaves_the_stream_usable():
    code = ("import os, signal, threading\nfrom troupe import Engine\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "engine = Engine('echo:?step_ms=10')\nstream, texts, interrupts = engine.stream('y' * 100), [], 0\n"
            "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "while True:\n"
            "    try:\n        texts += [d.text for d in stream]\n        break\n"
            "    except KeyboardInterrupt:\n        interrupts += 1\n"
            "print(interrupts, stream.result().text == 'y' * 100, engine.generate('then').text)\n")
    assert run_python(code) == (0, "1 True then\n", "")


def test_an_interrupt_ends_a_batch_and_cancels_it():
    code = ("import os, signal, threading, time\nfrom troupe import Engine\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "engine = Engine('echo:?step_ms=5')\n"
            "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "try:\n    engine.batch(['x' * 3000] * 50)\n"
            "except KeyboardInterrupt:\n    print('interrupted')\n"
            "while engine.stats().running + engine.stats().waiting: time.sleep(0.01)\n"
            "print(engine.stats().cancelled)\n")
    assert run_python(code) == (0, "interrupted\n50\n", "")


def test_a_stream_in_a_fork_ends_instead_of_waiting_for_ever():
    code = ("import os, sys, troupe\n"
            "engine = troupe.Engine('echo:?step_ms=5')\n"
            "stream = engine.stream('x' * 300)\nnext(stream)\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    try:\n        stream.result()\n"
            "    except troupe.Forked as error:\n        os._exit(7 if error.code == 'FORKED' else 8)\n"
            "    os._exit(9)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(stream.result().text))\n")
    assert run_python(code) == (0, "7 300\n", "")


def test_a_pool_of_forked_workers_may_open_nothing_but_ends():
    code = ("import multiprocessing, troupe\n"
            "def work(i):\n"
            "    try:\n        return engine.generate(str(i)).text\n"
            "    except troupe.Forked as error:\n        return error.code\n"
            "engine = troupe.Engine('echo:')\n"
            "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
            "    print(pool.map(work, range(3)), engine.generate('parent').text)\n")
    assert run_python(code) == (0, "['FORKED', 'FORKED', 'FORKED'] parent\n", "")


def test_an_engine_dropped_in_a_fork_is_silent_and_stays_open_in_the_parent():
    code = ("import gc, os, sys, troupe\n"
            "engine = troupe.Engine('echo:')\n"
            "child = os.fork()\n"
            "if child == 0:\n    del engine\n    gc.collect()\n    sys.exit(0)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), engine.generate('still open').text)\n")
    assert run_python(code) == (0, "0 still open\n", "")


def test_an_event_loop_in_a_fork_hears_of_it():
    code = ("import asyncio, os, troupe\n"
            "async def main():\n"
            "    engine = await troupe.AsyncEngine.open('echo:')\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        try:\n            engine.stream('x')\n"
            "        except troupe.Forked:\n            os._exit(7)\n"
            "        os._exit(9)\n"
            "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (await engine.generate('x')).text)\n"
            "    await engine.close()\n"
            "asyncio.run(main())\n")
    assert run_python(code) == (0, "7 x\n", "")


def test_exit_without_closing_anything():
    code = ("import asyncio\nfrom troupe import AsyncEngine, Engine\n"
            "kept = [Engine('echo:') for _ in range(3)]\nstreams = [e.stream('x' * 500) for e in kept]\n"
            "async def main():\n    global far\n    far = await AsyncEngine.open('echo:?step_ms=5')\n"
            "    global task\n    task = asyncio.create_task(far.generate('x' * 500))\n    await asyncio.sleep(0.05)\n"
            "asyncio.run(main())\nprint('bye')\n")
    code, out, err = run_python(code)
    assert (code, out) == (0, "bye\n"), err
