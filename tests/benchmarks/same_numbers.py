"""Whether two studies have the same numbers: every metric of every trial, replicate and audit, and the published tables.

    python studies/crl_tradeoff.py --concurrency 1 --storage before     # with one version of the code
    python studies/crl_tradeoff.py --concurrency 1 --storage after      # with the other one
    python tests/benchmarks/same_numbers.py before/crl_tradeoff-* after/crl_tradeoff-*

Prints every difference and exits with 1 if there is one. Durations and rates are not compared, nor are columns
that are new.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

RESULTS = (
    "trials/**/result.json", "confirm/**/result.json", "confirm/**/audit.json", "versions/*/trials/**/result.json",
    "versions/*/confirm/**/result.json",
)  # fmt: skip
TIMING = ("seconds/", "images_per_second/", "epoch/seconds")


def numbers(folder: Path) -> Iterator[tuple[str, object]]:
    """Every metric and curve in the result files of a study, by file and name, and the lines of its tables."""
    for path in sorted(path for pattern in RESULTS for path in folder.glob(pattern)):
        result, place = json.loads(path.read_text()), path.relative_to(folder)
        for name, value in result["metrics"].items():
            if not name.startswith(TIMING):
                yield f"{place} {name}", value
        for row in result.get("curve") or []:
            yield from ((f"{place} epoch {row['epoch']} {name}", v) for name, v in row.items() if not name.startswith(TIMING))
        yield f"{place} error", bool(result["error"])
    for name in ("front.csv", "confirmed.csv"):
        if (folder / name).exists():
            yield from ((f"{name} line {i}", line) for i, line in enumerate((folder / name).read_text().splitlines()))


def main() -> int:
    """Compare two studies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args()
    before, after = dict(numbers(args.before)), dict(numbers(args.after))
    different = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name}: {before.get(name)} -> {after.get(name)}")
    print(f"{len(before)} numbers before, {len(after)} after, {len(different)} different")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
