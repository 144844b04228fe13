"""Coverage-guided fuzzing of one target by hand, with atheris (pip install atheris; Linux).

    python tests/fuzz/by_hand.py header -runs=1000000 -seed=1

The options behind the target's name are libFuzzer's. A file that breaks a target is left in the current folder as
crash-*; python tests/fuzz/by_hand.py header crash-* runs it once more. Without a name: the targets that there are.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris


def main() -> None:
    sys.path[:0] = [str(Path(__file__).parents[1])]
    with atheris.instrument_imports(include=["forge.repo", "forge.text"], enable_loader_override=False):
        from fuzz.targets import TARGETS, refuses_or_takes

    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit("targets: " + ", ".join(TARGETS))
    target = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, seed in enumerate(target.seeds):
            (folder / f"seed-{number}").write_bytes(seed)
        escaped = ["".join(f"\\x{byte:02x}" for byte in token) for token in target.tokens if len(token) <= 60]
        words = folder.with_suffix(".dict")
        words.write_text("".join(f'"{token}"\n' for token in escaped))
        given = [argument for argument in sys.argv if not argument.startswith("-")][1:]
        arguments = [*sys.argv, f"-dict={words}", *([] if given else [name])]
        atheris.Setup(arguments, lambda content: refuses_or_takes(target, content) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
