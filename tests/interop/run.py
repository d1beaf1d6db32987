"""Clients and peers that nobody here wrote, against the release binary.

    python tests/interop/run.py --binary target/release/evenkeel [--short] [--seed N] [--only GROUP …] [--pooler KIND]

Starts services (`upstreams.py`), starts the binary with configurations of its own on free ports, and runs every case.
Everything stays on loopback, is bounded, and is ended at the end. `cargo xtask interop` prepares what this needs and
calls it. The last line says how many cases passed and failed; the status is 0 only if none failed.
"""

import argparse
import signal
import sys
import time
import traceback
from pathlib import Path

import harness
import pool
from cases import (  # noqa: F401 (a module's import lists its cases; this is the order in which they run)
    curl,
    python_clients,
    node_clients,
    load,
    websocket,
    events,
    metrics,
    differential,
    slow,
    large,
    pool_psycopg,
    pool_asyncpg,
    pool_sqlalchemy,
    pool_wire,
    pool_programs,
    pool_node,
    pool_leaks,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Third-party clients and peers against the release binary.")
    parser.add_argument("--binary", required=True, type=Path, help="the program under test")
    parser.add_argument("--short", action="store_true", help="smaller loads: about a minute")
    parser.add_argument("--seed", type=int, default=1, help="of the differential test")
    parser.add_argument("--only", nargs="*", metavar="GROUP", help="run these groups only; `pool` is all of `pool:…`")
    parser.add_argument("--pooler", choices=pool.KINDS, default=pool.KINDS[0], help="whom drivers talk to")
    options = parser.parse_args()
    binary = options.binary.resolve()
    if not binary.is_file():
        print(f"there is no {binary}; build it with `cargo build --release`", file=sys.stderr)
        return 2
    cases = [c for c in harness.CASES if not options.only or {c.group, c.group.split(":")[0]} & set(options.only)]
    if not cases:
        print(f"no such group; there are {', '.join(dict.fromkeys(c.group for c in harness.CASES))}", file=sys.stderr)
        return 2
    # Told to stop, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed, failed = 0, 0
    with harness.World(binary, options.short, options.seed, options.pooler) as world:
        width, longest = max(len(c.group) for c in cases), max(len(c.name) for c in cases)
        for one in cases:
            began = time.monotonic()
            try:
                harness.perform(one, world)
                verdict, why = "ok", None
            except Exception as error:
                verdict = "FAILED"
                told = isinstance(error, harness.Failed)
                why = str(error) if told else "".join(traceback.format_exception(error, limit=-6)).rstrip()
            passed, failed = (passed + 1, failed) if why is None else (passed, failed + 1)
            took = time.monotonic() - began
            print(f"{verdict:<6}  {one.group:<{width}}  {one.name:<{longest}}  {took:6.2f} s")
            for line in [*world.take_notes(), *([] if why is None else why.splitlines())]:
                print(f"{'':<6}  {'':<{width}}    {line}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
