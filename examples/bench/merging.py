"""What a merge costs as a whole process, with the default search on the embedded base: git, its driver and hooks.

    python -m examples.bench.merging --contributions 3 10 50 200

makes a model of each size whose main has all contributions but one, and merges the branch that brings the last. Printed
are CPU seconds of the whole process tree (medians of the rounds, with the lowest and the highest), the ratio to
importing torch and open_clip, which every program that builds the base does, and the peak memory of the largest
process. `--against FOLDER` runs another source tree of git forge in turn with this one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path
from statistics import median
from subprocess import run

from examples.bench.scale import Runs, measure
from forge.text import aligned

IMPORTS = f"{shlex.quote(sys.executable)} -c 'import torch, open_clip'"
MERGE = "git merge --quiet --no-edit last 2>/dev/null"
UNDO = "git reset --quiet --hard main-as-it-was"


def main() -> None:
    """Parse the command line, make the models, merge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contributions", type=int, nargs="+", default=[3, 10, 50, 200], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another source tree of git forge")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    trees = {"now": Path(__file__).resolve().parents[2]} | ({"against": chosen.against} if chosen.against else {})
    with tempfile.TemporaryDirectory(prefix="git-forge-bench-") as name:
        # In a process of its own: what is measured starts from this one, and would seem as large as it is.
        making = [sys.executable, "-m", "examples.bench.learnt", name, *map(str, chosen.contributions)]
        run(making, cwd=trees["now"], check=True)
        imports = Runs()
        merges = {(tree, count): Runs() for tree in trees for count in chosen.contributions}
        for turn in range(chosen.rounds):
            measure(IMPORTS, Path(name), {}, imports)
            for (tree, count), runs in merges.items():
                top = Path(name) / str(count)
                measure(MERGE, top, {"PYTHONPATH": str(trees[tree])}, runs)
                measure(UNDO, top, {}, Runs())
            print(f"round {turn + 1} of {chosen.rounds}", file=sys.stderr)
    print(table(imports, merges))


def table(imports: Runs, merges: dict[tuple[str, int], Runs]) -> str:
    """The rows: contributions, tree, CPU seconds with their spread, ratio to the imports, MB at most."""
    unit = median(imports.cpu)
    rows = [["(imports)", "", f"{unit:.2f}", _spread(imports), "1.00", f"{median(imports.memory):.0f}"]]
    for (tree, count), runs in sorted(merges.items(), key=lambda item: item[0][1]):
        cpu = median(runs.cpu)
        rows.append([str(count), tree, f"{cpu:.2f}", _spread(runs), f"{cpu / unit:.2f}", f"{median(runs.memory):.0f}"])
    return aligned(["merge of", "tree", "CPU s", "lowest-highest", "x imports", "MB"], rows, right={0, 2, 4, 5})


def _spread(runs: Runs) -> str:
    return f"{min(runs.cpu):.2f}-{max(runs.cpu):.2f}"


if __name__ == "__main__":
    main()
