"""What several test files call."""

import subprocess
import sys
import time

LONG = "x" * 3000


def wait_for(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def run_python(code, timeout=30):
    # Python 3.12 deprecates what the tests of forks do.
    done = subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], timeout=timeout, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
