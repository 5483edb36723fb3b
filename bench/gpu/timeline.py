#!/usr/bin/env python3
"""What ran when on the GPU, from the file that ACCOUNT_SPANS names (account.cpp).

    bench/gpu/timeline.py SPANS [--last MS] [--slice MS] [--top N]

Prints, for the last MS milliseconds, one line per slice of time: what share of it each stream was
busy, how much two streams overlapped, how much nothing ran; then each stream's kernels by time.
"""
import argparse
import collections
import pathlib


def read(path):
    """The spans of a file as (begin, end, stream, name), in order; times in ns."""
    head, _, body = pathlib.Path(path).read_text().partition("\n\n")
    names = head.split("\n")
    spans = []
    for line in body.splitlines():
        begin, end, stream, name = map(int, line.split())
        spans.append((begin, end, stream, names[name]))
    return sorted(spans)


def merged(spans):
    """Intervals in which any of the spans ran."""
    out = []
    for begin, end, *_ in spans:
        if out and begin <= out[-1][1]:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([begin, end])
    return out


def covered(intervals, begin, end):
    return sum(max(0, min(e, end) - max(b, begin)) for b, e in intervals)


def print_slices(spans, streams, step):
    by_stream = {s: merged([x for x in spans if x[2] == s]) for s in streams}
    everything = merged(spans)
    first, last = spans[0][0], max(x[1] for x in spans)
    print("    ms  " + "".join(f"{'stream ' + str(s):>12}" for s in streams) + "  together    idle")
    for begin in range(first, last, step):
        end = min(begin + step, last)
        busy = [covered(by_stream[s], begin, end) for s in streams]
        union = covered(everything, begin, end)
        share = 100.0 / (end - begin)
        print(f"{(begin - first) / 1e6:7.1f} " + "".join(f"{b * share:12.1f}" for b in busy) +
              f"{(sum(busy) - union) * share:10.1f}{(end - begin - union) * share:8.1f}")


def print_kernels(spans, stream, top):
    mine = [x for x in spans if x[2] == stream]
    times = collections.defaultdict(list)
    for begin, end, _, name in mine:
        times[name].append(end - begin)
    busy = sum(e - b for b, e in merged(mine))
    print(f"\nstream {stream}: busy {busy / 1e6:.2f} ms")
    for name, ns in sorted(times.items(), key=lambda x: -sum(x[1]))[:top]:
        print(f"{len(ns):8d} {sum(ns) / 1e6:10.3f} ms {sum(ns) / len(ns) / 1e3:10.2f} us  {name[:110]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spans")
    parser.add_argument("--last", type=float, default=1e9, help="milliseconds")
    parser.add_argument("--slice", type=float, default=20.0, help="milliseconds")
    parser.add_argument("--top", type=int, default=16)
    args = parser.parse_args()
    spans = read(args.spans)
    end = max(x[1] for x in spans)
    spans = [x for x in spans if x[0] >= end - args.last * 1e6]
    streams = sorted({x[2] for x in spans})
    print_slices(spans, streams, int(args.slice * 1e6))
    for stream in streams:
        print_kernels(spans, stream, args.top)


if __name__ == "__main__":
    main()
