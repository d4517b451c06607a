"""Kill everything at random while scripts run, models score and models are registered: `python -m benchmarks.faults`.

A server and a `dbml worker` of its own.  Callers check every answer; meanwhile, again and again, one kind of process is
killed, and a prober finds out how long it takes until a script and a prediction succeed again.  Exit code 1 where a
call failed without saying why, answered wrongly or hung, where a registration, artifact or run that was acknowledged is
not there, where anything is left over, or where it took longer than RECOVERY_S until all was well again.

Some faults come REST_S after the last one, some at once upon it.  Of the latter, which strike while what stands by is
still on its way, recovery is told too, and not judged.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import shutil
import sys
import threading
import time
from collections import defaultdict

from rich.console import Console

from benchmarks.faults.afterwards import left_over, lost
from benchmarks.faults.callers import CALLERS, Caller, Tally
from benchmarks.faults.kills import Faults
from benchmarks.faults.tables import show
from benchmarks.faults.world import HANG_S, World, recover

RECOVERY_S = 5.0
CALM_S = (0.3, 2.5)  # between recovery and the next kill
REST_S = (15.0, 20.0)  # or this long, so that what stands by is ready again


def main() -> None:
    """Run, print, and exit with 1 where something is not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    parser.add_argument("--rests", type=float, default=0.5, help="part of the faults that come after a rest")
    parser.add_argument("--only", default=None, help="kinds of faults, with commas between them")
    options = parser.parse_args()
    world, tally = World(options.major), Tally()
    try:
        bad = run(world, tally, options)
    finally:
        world.stop()
        if os.environ.get("DBML_FAULTS_LOG"):
            shutil.copy(world.folder / "worker.log", os.environ["DBML_FAULTS_LOG"])
        world.close()
    sys.exit(1 if bad else 0)


def run(world: World, tally: Tally, options: argparse.Namespace) -> bool:
    """Do it all; returns whether something is not as wanted."""
    from sklearn.linear_model import LinearRegression

    world.start()
    recoveries: defaultdict[str, list[float]] = defaultdict(list)
    doubled: defaultdict[str, list[float]] = defaultdict(list)
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    with world.connect() as connection:
        connection.execute("select dbml.register_model('line', %s)", (pickle.dumps(model),))
    recover(world, time.monotonic())
    over = threading.Event()
    callers = [
        Caller(world, tally, kind, number, options.seed, over) for kind, count in CALLERS.items() for number in range(count)
    ]
    for caller in callers:
        caller.start()
    faults = Faults(world, options.seed)
    calm = random.Random(options.seed)
    began = time.monotonic()
    wanted = options.only.split(",") if options.only else None
    while time.monotonic() - began < options.minutes * 60:
        rests = calm.random() < options.rests
        time.sleep(calm.uniform(*(REST_S if rests else CALM_S)))
        times = recoveries if rests else doubled
        name = calm.choice(wanted) if wanted else faults.choose()
        at = time.monotonic()
        if faults.kill(name):
            times[name].append(recover(world, at))
            if times[name][-1] > RECOVERY_S:
                how = f"{time.strftime('%H:%M:%S')} recovery from {name}{'' if rests else ', upon another fault,'}"
                print(f"{how} took {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    over.set()
    for caller in callers:
        caller.join(timeout=HANG_S + 10)
    hung = [caller.name for caller in callers if caller.is_alive()]
    recover(world, time.monotonic())
    missing = lost(world, tally)
    leftovers = list(left_over(world))
    slowest = max((max(times) for times in recoveries.values()), default=0.0)
    show(tally, recoveries, doubled, seconds, world, options.seed)
    console = Console(width=120)
    verdicts = {
        "errors that do not say what died": tally.unclear, "wrong answers": tally.wrong, "calls that hung": hung,
        "acknowledged and lost, or not whole": missing, "left over": leftovers,
    }  # fmt: skip
    for what, found in verdicts.items():
        console.print(f"{what}: {len(found)}" + "".join(f"\n    {line}" for line in sorted(set(found))[:10]), markup=False)
    acknowledged = f"{len(tally.models)} models, {len(tally.artifacts)} artifacts, {len(tally.runs)} runs"
    console.print(f"acknowledged and there: {acknowledged}")
    console.print(f"longest time to recovery: {slowest:.1f} s, wanted <= {RECOVERY_S:g} s")
    bad = slowest > RECOVERY_S or any(verdicts.values())
    console.print("NOT as wanted" if bad else "all as wanted")
    return bad


if __name__ == "__main__":
    main()
