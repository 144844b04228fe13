"""How what a consortium does every day grows: with contributions, and with versions. Makes a CSV and a plot.

    python -m examples.bench.growing [FOLDER]

makes generated consortia (consortium.py: 40 tasks, payloads of a kilobyte) of 30 to 1,000 contributions, a version for
each, and of 100 contributions with 1,000 to 10,000 versions, and measures each command once, as a whole process tree in
CPU seconds. Exponents k of seconds ~ size^k are fitted above what `git forge -h` takes. The search of a merge is not
here: its images are its cost, which examples/bench/merging.py measures.
"""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.bench.consortium import make_consortium
from examples.bench.scale import Runs, exponent, measure
from forge.text import aligned

CONTRIBUTIONS = (30, 100, 300, 1000)
VERSIONS = (1000, 3000, 10_000)
OF_VERSIONS = 100  # contributions, where versions grow
RESULTS = Path(__file__).parent / "results"

_FORGE = shlex.quote(str(Path(sys.executable).with_name("git-forge")))
_FORGET = "rm -f .git/forge/versions.sqlite*"
# name: what is run before and not measured, and what is measured
COMMANDS = {
    "git clone": ("rm -rf ../clone", "git clone --quiet --no-local . ../clone"),
    "git clone, blob:none": ("rm -rf ../part", "git clone --quiet --no-local --filter=blob:none . ../part"),
    "git forge log, the first": (_FORGET, f"{_FORGE} log"),
    "git forge log, again": ("true", f"{_FORGE} log"),
    "git forge log -n 10": ("true", f"{_FORGE} log -n 10"),
    "git forge status": ("true", f"{_FORGE} status"),
    "git forge show": ("true", f"{_FORGE} show"),
    "git forge verify --no-scores": ("true", f"{_FORGE} verify --no-scores"),
    "merging two recipes": (
        "for i in 0 1 2; do git show HEAD~$i:forge-item.json > .git/item-$i; done",
        f"{_FORGE} merge-driver --union .git/item-2 .git/item-1 .git/item-0 forge-item.json",
    ),
    "a push that a server checks": (
        "git -C ../server.git update-ref refs/heads/main $(git rev-parse HEAD~1)",
        "git push --quiet ../server.git HEAD:refs/heads/main",
    ),
}


def measure_all(folder: Path, contributions: int, versions: int) -> dict[str, float]:
    """CPU seconds of each command in a new consortium, and of the help as `help`; MB of its pack as `pack`."""
    top = folder / "model"
    make_consortium(top, contributions, versions)
    for line in (
        "git config uploadpack.allowFilter true && git config user.name Ada && git config user.email ada@example.org",
        f"{_FORGE} install && git clone --quiet --bare . ../server.git && {_FORGE} -h",
        f"git -C ../server.git config --unset remote.origin.url; cd ../server.git && {_FORGE} install --server",
    ):
        subprocess.run(["sh", "-c", line], cwd=top, check=True, stdout=subprocess.DEVNULL)
    seconds = {"help": _cpu(f"{_FORGE} -h", top)}
    for name, (before, command) in COMMANDS.items():
        measure(before, top, {}, Runs())
        seconds[name] = _cpu(command, top)
    seconds["pack"] = sum(file.stat().st_size for file in (top / ".git/objects/pack").iterdir()) / 1e6
    return seconds


def _cpu(command: str, top: Path) -> float:
    runs = Runs()
    measure(command, top, {}, runs)
    return runs.cpu[0]


def run_all(contributions: Sequence[int], versions: Sequence[int], of_versions: int) -> list[dict[str, object]]:
    """A row for each consortium and command."""
    rows: list[dict[str, object]] = []
    sizes = [("contributions", each, each) for each in contributions]
    sizes += [("versions", of_versions, each) for each in versions]
    for growing, count, version in sizes:
        with tempfile.TemporaryDirectory(prefix="git-forge-growing-") as name:
            seconds = measure_all(Path(name), count, version)
        start = seconds.pop("help")
        rows += [
            {"growing": growing, "contributions": count, "versions": version, "what": what,
             "value": round(value, 3), "start": round(start, 3)}
            for what, value in seconds.items()
        ]  # fmt: skip
        print(f"{count} contributions, {version} versions: measured", file=sys.stderr)
    return rows


def fitted(rows: Sequence[dict[str, object]], growing: str, what: str) -> tuple[list[int], list[float], float]:
    """Sizes, values, and k of values ~ size^k."""
    own = [row for row in rows if row["growing"] == growing and row["what"] == what]
    sizes = [int(str(row[growing])) for row in own]
    values = [float(str(row["value"])) for row in own]
    floor = 0.0 if what == "pack" or "clone" in what else min(float(str(row["start"])) for row in own)
    return sizes, values, exponent(sizes, values, floor)


def draw(rows: Sequence[dict[str, object]], file: Path) -> None:
    """Seconds by size on logarithmic axes, a line a command; what grows in each half is below it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, growing in zip(axes, ("contributions", "versions"), strict=True):
        for number, what in enumerate(COMMANDS):
            sizes, values, k = fitted(rows, growing, what)
            axis.plot(sizes, values, marker="osD^v"[number % 5], color=f"C{number}", label=f"{what}  (k = {k:.1f})")
        axis.set(xscale="log", yscale="log", xlabel=growing, ylabel="CPU seconds")
        axis.grid(which="both", alpha=0.2)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    axes[0].set_title("as many versions as contributions")
    axes[1].set_title(f"{OF_VERSIONS} contributions")
    figure.savefig(file, dpi=120)


def main(folder: Path) -> None:
    """Measure, write and print."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = run_all(CONTRIBUTIONS, VERSIONS, OF_VERSIONS)
    with (folder / "growing.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, folder / "growing.png")
    for growing in ("contributions", "versions"):
        lines = []
        for what in (*COMMANDS, "pack"):
            sizes, values, k = fitted(rows, growing, what)
            lines.append([what, *(f"{value:.2f}" for value in values), f"{k:.2f}"])
        print(aligned([f"by {growing}", *map(str, sizes), "exponent"], lines, range(1, len(sizes) + 2)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
