"""What looking at a model costs as contributions grow: every verb as a whole process, beside what plain git does there.

    python -m examples.bench.scale --contributions 100 300 1000

makes a consortium of each size (consortium.py) and runs all commands in turn, several rounds. Printed are medians of
CPU seconds (of the command and all that it starts; a busy machine moves them less than the clock), the ratio to plain
git's counterpart, the peak memory (what is below that of this process itself is not seen), and the exponent k of
seconds ~ contributions^k above what the help costs, where that is measured. `--against FOLDER` runs another source
tree of git forge in turn with this one, and prints its columns, too.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from examples.bench.consortium import make_consortium
from forge.text import aligned

_PYTHON = shlex.quote(sys.executable)
_FORGE = shlex.quote(str(Path(sys.executable).with_name("git-forge")))
_UNHOOKED = "-c core.hooksPath=/dev/null"
_COMMIT = "commit --quiet --message=x"
# The last contribution again: a commit of the version that has one more.
_CHANGE_ITEM = "git reset --quiet --hard HEAD~1 && git checkout --quiet refs/keep/main -- ."
_RESET = "git reset --quiet --hard main~0 && git update-ref refs/heads/main refs/keep/main && git reset --quiet --hard"


@dataclass(frozen=True)
class Case:
    """A verb, and what plain git (or Python alone) does of the same kind; both in the shell, as they are typed.

    before, after: what makes and undoes the change that a commit is to take; not timed.
    """

    name: str
    forge: str
    plain: str
    before: str = "true"
    after: str = "true"


CASES = (
    Case("help", f"{_FORGE} -h", f"{_PYTHON} -c 'import click'"),
    Case("filter (idle)", f"{_FORGE} filter-process </dev/null", f"{_PYTHON} -c 'import click'"),
    Case("hook (idle)", f"{_FORGE} hook post-merge", f"{_PYTHON} -c 'import click'"),
    Case("log -n 10", f"{_FORGE} log -n 10", "git log -n 10 --raw -- forge-item.json"),
    Case("log", f"{_FORGE} log", "git log --raw -- forge-item.json"),
    Case("status", f"{_FORGE} status", "git status"),
    Case("show", f"{_FORGE} show", "git show --stat"),
    Case("verify --no-scores", f"{_FORGE} verify --no-scores", "git archive HEAD"),
    Case(
        "git commit", f"git {_COMMIT}", f"git {_UNHOOKED} {_COMMIT}",
        before="echo x > README && git add README", after=_RESET,
    ),
    Case(
        "git commit of an item", f"git {_COMMIT}", f"git {_UNHOOKED} {_COMMIT}",
        before=_CHANGE_ITEM, after=_RESET,
    ),
)  # fmt: skip


@dataclass
class Runs:
    """CPU seconds, seconds by the clock, and peak memory in MB of the runs of one command."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


Column = Mapping[tuple[str, int], Runs]  # by the name of the case and the number of contributions


def measure(command: str, top: Path, variables: Mapping[str, str], runs: Runs) -> None:
    """Run a command in a folder, its output thrown away. Raises RuntimeError where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=top, env={**_environment(), **variables}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    runs.wall.append(time.perf_counter() - started)
    runs.cpu.append(usage.ru_utime + usage.ru_stime)
    runs.memory.append(usage.ru_maxrss / 1024)  # KiB on Linux


def _environment() -> dict[str, str]:
    """Compiled modules are kept, as they are for everybody, whatever the shell of who measures has set."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_all(
    sizes: Sequence[int], rounds: int, cases: Sequence[Case], trees: Mapping[str, Path], folder: Path
) -> dict[str, dict[tuple[str, int], Runs]]:
    """The runs of every case at every size, by column: `plain`, and one for each source tree of git forge."""
    columns: dict[str, dict[tuple[str, int], Runs]] = {
        name: {(case.name, size): Runs() for size in sizes for case in cases} for name in ("plain", *trees)
    }
    for size in sizes:
        top = folder / f"consortium-{size}"
        if not top.exists():
            make_consortium(top, size)
        for args in (
            f"{_FORGE} install", "git config user.name Ada", "git config user.email ada@example.org",
            "git update-ref refs/keep/main main", "sleep 1.1; git status", f"{_FORGE} status",
        ):  # fmt: skip
            measure(args, top, {}, Runs())
        for name in trees if size == min(sizes) else ():
            for case in cases:  # compiles its modules
                measure(case.before, top, {}, Runs())
                measure(case.forge, top, {"PYTHONPATH": str(trees[name])}, Runs())
                measure(case.after, top, {}, Runs())
        for turn in range(rounds):
            for case in cases:
                for name in ("plain", *trees):
                    command = case.plain if name == "plain" else case.forge
                    variables = {} if name == "plain" else {"PYTHONPATH": str(trees[name])}
                    measure(case.before, top, {}, Runs())
                    measure(command, top, variables, columns[name][case.name, size])
                    measure(case.after, top, {}, Runs())
            print(f"{size} contributions: round {turn + 1} of {rounds}", file=sys.stderr)
    return columns


def exponent(sizes: Sequence[int], seconds: Sequence[float], floor: float) -> float:
    """k of seconds - floor ~ size^k by least squares of logarithms; NaN where one size alone was measured.

    floor: what the program costs to start, without which a verb that does nothing much would seem to grow slowly.
    """
    if len(sizes) < 2:
        return float("nan")
    above = np.maximum(np.array(seconds) - floor, 1e-3)
    return float(np.polyfit(np.log(sizes), np.log(above), 1)[0])


def table(sizes: Sequence[int], cases: Sequence[Case], columns: Mapping[str, Column]) -> str:
    """All of it as text: for each case and size a row, with the exponents in the rows of the largest size."""
    names = [name for name in columns if name != "plain"]
    headers = ["Command", "Contributions", "plain s"]
    for name in names:
        headers += [f"{name} s", "by the clock", "ratio", "MB", "exponent"]
    if len(names) == 2:
        headers.append(f"{names[0]} / {names[1]}")
    rows = []
    for case in cases:
        for size in sizes:
            plain = median(columns["plain"][case.name, size].cpu)
            row = [case.name, str(size), f"{plain:.3f}"]
            for name in names:
                runs = columns[name][case.name, size]
                start = columns[name].get((CASES[0].name, size))
                floor = min(start.cpu) if start is not None and case is not CASES[0] else 0.0
                fitted = exponent(sizes, [median(columns[name][case.name, each].cpu) for each in sizes], floor)
                seconds = median(runs.cpu)
                row += [
                    f"{seconds:.3f}", f"{median(runs.wall):.3f}", f"{seconds / max(plain, 1e-3):.2f}",
                    f"{max(runs.memory):.0f}", f"{fitted:.2f}" if size == max(sizes) else "",
                ]  # fmt: skip
            if len(names) == 2:
                one, other = (median(columns[name][case.name, size].cpu) for name in names)
                row.append(f"{one / other:.1f}")
            rows.append(row)
    return aligned(headers, rows, right=range(1, len(headers)))


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contributions", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="these commands alone")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another source tree of git forge")
    parser.add_argument(
        "--folder", type=Path, help="where the consortia are made, or lie already; else they are removed"
    )
    options = parser.parse_args()
    here = Path(__file__).parents[2]
    trees = ({"before": options.against.absolute()} if options.against else {}) | {"forge": here}
    cases = [case for case in CASES if not options.only or case.name in options.only]
    with tempfile.TemporaryDirectory(prefix="git-forge-scale-") as scratch:
        folder = options.folder or Path(scratch)
        columns = run_all(options.contributions, options.rounds, cases, trees, folder)
    print(table(options.contributions, cases, columns))


if __name__ == "__main__":
    main()
