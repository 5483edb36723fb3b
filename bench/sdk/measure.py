"""Compares what a token event costs in several programs.

    measure.py STREAMS NAME=COMMAND ...      the first one is the floor

Each command is run with an endpoint, a number of streams and a number of tokens, and prints how many
token events it saw. The cost of an event is the difference in the process's CPU time (user and system)
between a long and a short answer, over the difference in events: what starting costs falls out. The
engine's own work is in it, in all alike; what a language adds is its cost beyond the first program's.
"""

import json
import os
import statistics
import subprocess
import sys

ENDPOINT = "echo:?step_ms=4"  # slow enough that every token is an event of its own
SHORT, LONG, REPEATS = 50, 400, 3


def run(command: str, streams: int, tokens: int) -> tuple[float, int]:
    """CPU seconds, and token events."""
    process = subprocess.Popen([*command.split(), ENDPOINT, str(streams), str(tokens)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command}: exit status {status}")
    return usage.ru_utime + usage.ru_stime, int(printed)


def main() -> None:
    streams = int(sys.argv[1])
    programs = dict(argument.split("=", 1) for argument in sys.argv[2:])
    costs: dict[str, list[float]] = {name: [] for name in programs}
    per_token: dict[str, list[float]] = {name: [] for name in programs}
    for repeat in range(REPEATS + 1):
        for name, command in programs.items():
            short_cpu, short_events = run(command, streams, SHORT)
            long_cpu, long_events = run(command, streams, LONG)
            if repeat == 0:
                continue  # warm-up
            events = long_events - short_events
            costs[name].append((long_cpu - short_cpu) / events * 1e6)
            per_token[name].append(events / (streams * (LONG - SHORT)))
    floor = statistics.median(next(iter(costs.values())))
    facts = {}
    print("| program | µs a token event, whole process | beyond the first | spread | events a token |")
    print("|---|---|---|---|---|")
    for name, values in costs.items():
        cost = statistics.median(values)
        share = statistics.median(per_token[name])
        print(f"| {name} | {cost:.1f} | {cost - floor:.1f} | {min(values):.1f} to {max(values):.1f} | {share:.2f} |")
        facts[name] = {"us_per_event": round(cost, 2), "us_beyond_floor": round(cost - floor, 2),
                       "min": round(min(values), 2), "max": round(max(values), 2), "events_per_token": round(share, 3)}
    print(json.dumps({"bench": "sdk_overhead", "streams": streams, "endpoint": ENDPOINT, "short": SHORT,
                      "long": LONG, "repeats": REPEATS, "programs": facts}))


main()
