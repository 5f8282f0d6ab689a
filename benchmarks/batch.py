"""Many small cases: shards whose workers are killed at random, taken up again, beside a plain run.

Usage: PYTHONPATH=tests python benchmarks/batch.py

Made-up pictures, NIfTI files and DICOM images, one in twelve damaged. First one plain run by
one worker and one by two, timed; then two shards at once, somebody killing their workers at
random and one of the shards whole, and both again with --resume. What comes out must be the
same bytes, each case once, the bad ones listed; if not, nothing is written and the exit code is 1.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from batches_for_tests import harass, hash_tree, read_lines, start, write_cases
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text

FINISHED = (0, 3)


def run_plain(manifest: Path, bundle: str, output: Path, jobs: int) -> float:
    """Run all cases, undisturbed; give the time in s, from start to end of the process."""
    begin = time.perf_counter()
    batch = start(manifest, bundle, output, "--jobs", str(jobs))
    told = batch.communicate()
    if batch.returncode not in FINISHED:
        sys.exit(f"a plain run ended with {batch.returncode}: {told}")
    return time.perf_counter() - begin


def run_harassed(
    manifest: Path, bundle: str, output: Path, *, kills: int, pause_s: float, seed: int
) -> tuple[int, int]:
    """Run two shards while their workers are killed, then both again.

    Returns:
        Workers killed, and cases that the second runs had left to do.
    """
    chance = random.Random(seed)
    batches = [start(manifest, bundle, output, "--shard", f"{number}/2") for number in (1, 2)]
    killed = harass(batches, chance, kills=kills // 4, pause_s=pause_s)
    batches[0].kill()
    killed += harass(batches, chance, kills=kills - killed, pause_s=pause_s)
    for batch in batches:
        batch.communicate()
    before = len([path for path in output.iterdir() if path.is_dir() and path.name[0] != "."])
    for number in (1, 2):
        batch = start(manifest, bundle, output, "--shard", f"{number}/2", "--resume")
        told = batch.communicate()
        if batch.returncode not in FINISHED:
            sys.exit(f"a resumed shard ended with {batch.returncode}: {told}")
    return killed, before


def find_faults(plain: Path, second: Path, harassed: Path, bad: set[str], count: int) -> list[str]:
    """Say what is not as it must be."""
    lines = read_lines(*(harassed / f"results-{number}-of-2.jsonl" for number in (1, 2)))
    ids = sorted(line["id"] for line in lines)
    faults = []
    if len(ids) != count or len(set(ids)) != count:
        faults.append(f"{len(ids)} lines, {len(set(ids))} different ones, for {count} cases")
    listed = {line["id"] for line in lines if line["status"] != "done"}
    if listed != bad:
        faults.append(f"listed as bad and not, or the other way: {sorted(listed ^ bad)}")
    expected = hash_tree(plain)
    for name, output in (("two workers", second), ("harassed shards", harassed)):
        found = hash_tree(output)
        differ = {key for key in expected | found if expected.get(key) != found.get(key)}
        if differ:
            faults.append(f"{name}: {len(differ)} files differ, such as {min(differ)}")
    return faults


def main() -> None:
    """Run, check, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--bundle", default="camus-4ch", help="path or name of a bundle")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--pause", type=float, default=8, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        manifest, bad = write_cases(folder, chosen.cases)
        load = read_load()
        times = {
            jobs: run_plain(manifest, chosen.bundle, folder / f"plain-{jobs}", jobs)
            for jobs in (1, 2)
        }
        killed, before = run_harassed(
            manifest, chosen.bundle, folder / "harassed",
            kills=chosen.kills, pause_s=chosen.pause, seed=chosen.seed,
        )  # fmt: skip
        outputs = (folder / name for name in ("plain-1", "plain-2", "harassed"))
        faults = find_faults(*outputs, bad, chosen.cases)
        files = len(hash_tree(folder / "plain-1"))
    if faults:
        sys.exit("\n".join(faults))
    rows = "".join(
        f"| {jobs} | {seconds:.1f} | {chosen.cases / seconds:.1f} |\n"
        for jobs, seconds in times.items()
    )
    text = (
        f"# Many cases: {chosen.cases} of them, by `benchmarks/batch.py`\n\n"
        f"Bundle `{chosen.bundle}`; pictures, NIfTI files and DICOM images of about 48 x 64, "
        f"{len(bad)} damaged; each with mask, picture and report. {describe_processor()}; "
        f"load {load:.1f} before it began.\n\n"
        "| workers | s, whole process | cases/s |\n|---|---|---|\n"
        f"{rows}\n"
        f"Two shards at once had done {before} cases when {killed} workers had been killed at "
        "random moments, one shard whole, and the other had ended. Taken up again with "
        f"`--resume`: each case once, the {len(bad)} damaged ones listed as refused and no other, "
        f"and the same bytes as the plain run by one worker in all {files} files. Two workers "
        "give the same bytes too.\n"
    )
    write_text(chosen.output, text)
    print(text)


if __name__ == "__main__":
    main()
