"""Trains Lookout, the small vision-language model, from nothing: tokenizer, weights and folder.

    python3 examples/model/scenes/train.py --out examples/model/lookout --compile   # on a GPU

The processors draw new scenes all the time and the GPU keeps every tile it was ever sent; batches
are taken at random from all that has arrived. A row is one long conversation about several
pictures, and only its answers are learnt; beside them, labels.py's targets teach the tower what it
looks at.
"""

import argparse
import os
import pathlib
import time

from painters import Painters  # the painters import this file again: nothing heavy up here

TRAIN_SEED, TEST_SEED = 1_000_000, 11


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("examples/model/lookout"))
    parser.add_argument("--steps", type=int, default=60000)
    parser.add_argument("--minutes", type=float, default=6.0, help="cap on drawing and training")
    parser.add_argument("--batch-tokens", type=int, default=40960)
    parser.add_argument("--peak", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--tutoring", type=float, default=0.3, help="weight of labels.py's targets")
    parser.add_argument(
        "--simple", type=float, default=0.4, help="share of the time spent on one-tile pictures"
    )
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--tiles", type=int, default=3_200_000, help="room for tiles, 28.5 KB each")
    parser.add_argument("--first-rows", type=int, default=2000, help="rows to wait for")
    parser.add_argument(
        "--test-shards", type=int, default=4, help="of each worker, for the last check; 0: none"
    )
    parser.add_argument("--seed", type=int, default=0, help="for another run on other scenes")
    parser.add_argument("--report", type=int, default=250)
    parser.add_argument("--start-from", type=pathlib.Path, help="folder of an earlier run")
    parser.add_argument("--compile", action="store_true", help="torch.compile the layers")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    start = time.monotonic()
    import tokenizers

    import folder as folders

    if options.start_from:
        tokenizer = tokenizers.Tokenizer.from_file(str(options.start_from / "tokenizer.json"))
    else:
        tokenizer = folders.train_tokenizer()
    painters = Painters(
        tokenizer,
        options.workers,
        TRAIN_SEED + 1000 * options.seed,
        simple_seconds=0.75 * options.simple * options.minutes * 60,
    )
    import torch

    import learning

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    folders.save_description(tokenizer, options.out)
    pool = learning.Pool(painters, device, options.tiles)
    model = learning.new_model(options.out, device)
    if options.start_from:
        model.load_state_dict(folders.load_weights(options.start_from), strict=False)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    learning.train(model, pool, options, start)
    pool.stopped = True
    pool.thread.join()
    painters.stop()
    folders.save_weights(model, options.out)
    print(f"saved after {time.monotonic() - start:.0f} s", flush=True)
    if not options.test_shards:
        return
    testers = Painters(
        tokenizer, options.workers, TEST_SEED, held_out=True, shards=options.test_shards
    )
    shards = [testers.get(timeout=300) for _ in range(options.workers * options.test_shards)]
    testers.stop()
    model.bfloat16().float()  # what is measured is what was saved
    learning.forced_accuracy(model, shards, device)
    print(f"done after {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
