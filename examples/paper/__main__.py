"""The experiments' command line: `python -m examples.paper paper ...` and `python -m examples.paper report ...`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forge.errors import ExitCode, ForgeError

if TYPE_CHECKING:
    from examples.paper.experiment import ExperimentSettings
    from examples.paper.scenarios import Scenario
    from forge.model.base import BaseModel

SCENARIOS = ("multi-task", "multi-site", "digits")
STAGES = ("adapters", "distilled", "merged")
FIRST_SEED = 1  # 0 is the seed that tasks and settings were tried on
WORK = Path("paper-work")
RESULTS = Path("examples/paper/results")


@dataclass(frozen=True)
class Choice:
    """What the command line asks for."""

    data: Path | None
    reference: str
    scenarios: tuple[str, ...]
    seeds: int
    first_seed: int
    work: Path | None
    results: Path | None
    quick: bool

    def __post_init__(self) -> None:
        if self.data is not None and set(self.scenarios) - {"multi-task"}:
            raise ForgeError("the real data are those of the scenario multi-task", hint="leave --scenario out")

    @property
    def settings(self) -> ExperimentSettings:
        from examples.paper.experiment import QUICK, ExperimentSettings

        return QUICK if self.quick else ExperimentSettings()

    @property
    def names(self) -> tuple[str, ...]:
        """The scenarios to run; with real data there is one."""
        return self.scenarios or (SCENARIOS if self.data is None else SCENARIOS[:1])

    @property
    def seed_numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def folder(self) -> Path:
        """Where what is finished is kept; that of a quick run never meets that of a whole one."""
        return (self.work or WORK) / ("quick" if self.quick else "whole")

    @property
    def results_folder(self) -> Path:
        if self.results is not None:
            return self.results
        return self.folder / "results" if self.quick else RESULTS

    @property
    def command(self) -> str:
        """The command that makes these results again, without this machine's folders."""
        words = ["examples/paper/run", *(["--data ROOT"] if self.data is not None else [])]
        words += [f"--base {self.reference}"] * (self.reference != "embedded" and not Path(self.reference).exists())
        words += [f"--scenario {name}" for name in self.scenarios]
        words += [
            f"--seeds {self.seeds}",
            *([f"--first-seed {self.first_seed}"] if self.first_seed != FIRST_SEED else []),
        ]
        return " ".join([*words, *(["--quick"] if self.quick else [])])

    def scenario(self, base: BaseModel, name: str, seed: int) -> Scenario:
        from examples.paper.scenarios import make_scenario

        if self.data is None:
            return make_scenario(name, seed)
        from examples.paper.real_scenarios import make_real_scenario

        few = self.settings.images
        return make_real_scenario(self.data, base, seed, per_class=None if few is None else few // 2)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def group() -> None:
    """The paper's experiments: tables, figures, and everything they are made from."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    path = click.Path(path_type=Path)
    options = [
        click.option("--data", type=path, metavar="ROOT", help="Use the real images below this folder."),
        click.option("--base", "reference", default="embedded", show_default=True, help="As for git forge init."),
        click.option("--scenario", "scenarios", multiple=True, type=click.Choice(SCENARIOS), help="Default: all."),
        click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many."),
        click.option("--first-seed", type=click.IntRange(0), default=FIRST_SEED, show_default=True, help="The first."),
        click.option("--work", type=path, help=f"Where finished stages are kept. Default: {WORK}."),
        click.option("--results", type=path, help=f"Where tables and figures go. Default: {RESULTS}."),
        click.option("--quick", is_flag=True, help="Few images, epochs and steps: shows that it runs."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@group.command()
@_options
@click.option("--only-stage", type=click.Choice(STAGES), help="This one alone; several may run at the same time.")
@click.option("--rows", "patterns", multiple=True, metavar="PATTERN", help="Rows by name, such as 'mixture-joint-*'.")
def paper(only_stage: str | None, patterns: tuple[str, ...], **options: Any) -> None:
    """Train, distil and merge what is not finished yet; then make the tables and figures."""
    from examples.paper.experiment import Experiment, run_adapters, run_distilled
    from examples.paper.methods import matching
    from examples.paper.rows import run_merged
    from forge.model.base import load_base

    chosen = Choice(**options)
    matching(patterns)  # before anything long: a pattern that fits nothing is a mistake
    base = load_base(chosen.reference)
    for seed in chosen.seed_numbers:
        for name in chosen.names:
            experiment = Experiment(chosen.folder, base, chosen.scenario(base, name, seed), chosen.settings)
            if only_stage in (None, "adapters"):
                run_adapters(experiment)
            if only_stage in (None, "distilled"):
                run_distilled(experiment)
            if only_stage in (None, "merged"):
                run_merged(experiment, patterns)
    if only_stage is None:
        _report(chosen, base)


@group.command()
@_options
def unseen(**options: Any) -> None:
    """What a task-aware model should fall back to for labels that it has never seen: a table on standard output."""
    import pandas as pd

    from examples.paper.experiment import Experiment
    from examples.paper.unseen import measure_fallbacks
    from forge.model.base import load_base

    chosen = Choice(**options)
    base = load_base(chosen.reference)
    lines = []
    for seed in chosen.seed_numbers:
        experiment = Experiment(chosen.folder, base, chosen.scenario(base, "multi-task", seed), chosen.settings)
        for split in ("validation", "test"):
            found = measure_fallbacks(experiment, chosen.settings.distillation, split)
            lines += [{"seed": seed, "split": split, **vars(each)} for each in found]
    table = pd.DataFrame(lines).groupby(["split", "fallback", "task"])[["accuracy", "auc"]].mean().unstack("task")
    click.echo(table.round(3).to_string())


@group.command()
@_options
def report(**options: Any) -> None:
    """Make the tables and figures of what is finished."""
    from forge.model.base import load_base

    chosen = Choice(**options)
    _report(chosen, load_base(chosen.reference))


def _report(chosen: Choice, base: BaseModel) -> None:
    from examples.paper.report import write_report

    write_report(
        chosen.folder,
        chosen.results_folder,
        base,
        chosen.names,
        chosen.seed_numbers,
        chosen.settings,
        chosen.command,
        lambda name, seed: chosen.scenario(base, name, seed),
    )
    click.echo(chosen.results_folder / "README.md")


def main() -> int:
    """Run the command line; errors that a user can mend are told in a line or two."""
    try:
        group.main(prog_name="python -m examples.paper", standalone_mode=False)
    except ForgeError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return error.exit_code
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what is finished is kept, and the same command goes on from there", err=True)
        return ExitCode.INTERRUPTED
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
