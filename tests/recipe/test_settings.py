"""forge.toml: defaults, round trip, and refusals that name the key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from forge.errors import ForgeError
from forge.recipe.catalogue import STRATEGIES
from forge.recipe.item import Base
from forge.recipe.settings import (
    HELD_OUT,
    PAPER,
    PRESETS,
    LimitSettings,
    SearchSettings,
    Settings,
    choose_settings,
    read_settings,
    to_toml,
)
from forge.repo.settings_file import load_settings

MINIMAL = 'format = 1\n[base]\nreference = "embedded"\nfingerprint = "sha256:0"\n'
SETTINGS = Settings(Base("embedded", "sha256:0"))


def test_defaults() -> None:
    settings = read_settings(MINIMAL)
    assert settings == SETTINGS
    assert (settings.strategy, settings.task_aware, settings.consolidate) == ("mixture", False, 0)
    assert settings.search == SearchSettings() == PRESETS["best"]
    assert settings.limits.file_bytes == 256 * 2**20


def test_the_paper_s_settings() -> None:
    """MedForge (2025), Section 3.3: two scales, Shiwa, 40 evaluations from .5 within 1.5, L1 at .05."""
    wanted = SearchSettings("shiwa", "contribution", "cross-entropy", 0.0, "Shiwa", 40, 0.5, 1.5, 0.05, 0)
    assert PRESETS["paper"] == PAPER == wanted
    assert choose_settings(SETTINGS.base, "paper", "fusion", False) == replace(
        SETTINGS, strategy="fusion", search=wanted
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task_aware", [True, False])
def test_every_choice_of_init_can_be_read_again(preset: str, strategy: str, task_aware: bool) -> None:
    chosen = choose_settings(SETTINGS.base, preset, strategy, task_aware)
    assert read_settings(to_toml(chosen)) == chosen
    assert (chosen.strategy, chosen.task_aware) == (strategy, task_aware)
    assert chosen.search == PRESETS[preset] or (strategy, chosen.search.per) == ("mixture-output", "contribution")


def test_text() -> None:
    assert to_toml(replace(SETTINGS, search=PAPER)) == (
        "format = 1\n\n"
        '[base]\nreference = "embedded"\nfingerprint = "sha256:0"\n\n'
        '[merge]\nstrategy = "mixture"\ntask_aware = false\nconsolidate = 0\ngate = 0.2\n\n'
        '[search]\nmethod = "shiwa"\nper = "contribution"\nobjective = "cross-entropy"\npull = 0.0\n'
        'optimizer = "Shiwa"\nevaluations = 40\nstart = 0.5\nbounds = 1.5\nl1 = 0.05\nseed = 0\n\n'
        "[limits]\nfile_mebibytes = 256\ndistilled_images = 500\ncontributions = 1000\n"
    )


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, base=Base('C:\\weird "path"', "sha256:1"), strategy="fusion"),
        replace(
            SETTINGS,
            search=replace(PAPER, optimizer="OnePlusOne", evaluations=1, start=-1, bounds=2, l1=0, seed=7),
            limits=LimitSettings(1, 2),
        ),
        replace(
            SETTINGS,
            task_aware=True,
            consolidate=40,
            gate=0.05,
            search=SearchSettings("exact", "module", HELD_OUT, HELD_OUT),
        ),
    ],
)
def test_round_trip(settings: Settings) -> None:
    assert read_settings(to_toml(settings)) == settings
    assert read_settings(to_toml(settings).encode()) == settings


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "the line `format = 1` is missing", "git checkout"),
        ("format = true", "the line `format = 1` is missing", ""),
        ("format = 2", "written by a newer git forge", "update git forge"),
        ("format = 1\nbase = 3", r"\[base\] must be a table", ""),
        ("format = 1", r"\[base\] has no reference", ""),
        (MINIMAL.replace('"embedded"', "3"), "reference must be text", ""),
        (MINIMAL.replace('"embedded"', '""'), "reference must be text", ""),
        (MINIMAL.replace('"embedded"', "embedded"), "not valid TOML", "quotes"),
        (MINIMAL + "<<<<<<< HEAD\n", "merge conflict", "git add"),
        (MINIMAL + "[serch]\n", "unknown key 'serch'", "did you mean 'search'"),
        (MINIMAL + "[search]\nevaluation = 3", r"\[search\]: unknown key 'evaluation'", "'evaluations'"),
        (MINIMAL + "[merge]\nxyz = 3", r"\[merge\]: unknown key 'xyz'", "known are: strategy, task_aware, "),
        (MINIMAL + '[merge]\nstrategy = "soup"', "unknown strategy 'soup'", "mixture, mixture-output, fusion"),
        (MINIMAL + "[merge]\nstrategy = ['fusion']", "unknown strategy", ""),
        (MINIMAL + "[merge]\ntask_aware = 1", "merge.task_aware must be true or false, not 1", ""),
        (MINIMAL + "[merge]\nconsolidate = true", "merge.consolidate must be a whole number from 0", ""),
        (MINIMAL + "[merge]\nconsolidate = -1", "merge.consolidate", ""),
        (MINIMAL + "[merge]\ngate = 1.5", "merge.gate must be from 0 to 1", ""),
        (MINIMAL + "[merge]\ngate = -0.1", "merge.gate must be from 0 to 1", ""),
        (MINIMAL + "[merge]\ngate = true", "merge.gate must be a finite number", ""),
        (MINIMAL + '[merge]\ngate = "off"', "merge.gate must be a finite number", ""),
        (
            MINIMAL + '[merge]\nstrategy = "mixture-output"\n[search]\nper = "module"',
            "mixture-output weighs whole",
            'per = "contribution"',
        ),
        (MINIMAL + "[search]\nmethod = 'shiwa'", "shiwa finds two scales a merge", 'or per = "contribution"'),
        (MINIMAL + "[search]\nmethod = 'soup'", "search.method must be one of shiwa, exact, joint, not 'soup'", ""),
        (MINIMAL + "[search]\nper = 1", "search.per must be one of contribution, module", ""),
        (
            MINIMAL + "[search]\nobjective = []",
            "search.objective must be one of cross-entropy, distillation, held-out",
            "",
        ),
        (MINIMAL + "[search]\npull = 'strong'", "search.pull must be a number or 'held-out', not 'strong'", ""),
        (MINIMAL + "[search]\npull = -1", "search.pull must not be below 0", ""),
        (MINIMAL + "[search]\npull = inf", "search.pull must be a finite number", ""),
        (MINIMAL + "[search]\nevaluations = 0", "search.evaluations must be a whole number from 1", ""),
        (MINIMAL + "[search]\nevaluations = true", "search.evaluations", ""),
        (MINIMAL + "[search]\nseed = -1", "search.seed", ""),
        (MINIMAL + "[search]\nbounds = 0", "search.bounds must be above 0", ""),
        (MINIMAL + "[search]\nbounds = nan", "search.bounds must be a finite", ""),
        (MINIMAL + "[search]\nstart = 2", "search.start = 2.0 lies outside", ""),
        (MINIMAL + "[search]\nl1 = -0.1", "search.l1", ""),
        (MINIMAL + "[search]\noptimizer = '../x'", "search.optimizer", ""),
        (MINIMAL + "[limits]\nfile_mebibytes = 0", "limits.file_mebibytes", ""),
        (b"\xff", "UTF-8", ""),
        ("a = " + "[" * 100_000, "nested too deeply", ""),
        ("#" * (2**20 + 1), "larger than 1 MiB", ""),
    ],
)
def test_refused(text: str | bytes, message: str, hint: str) -> None:
    with pytest.raises(ForgeError, match=message) as caught:
        read_settings(text, "main:forge.toml")
    assert caught.value.message.startswith("main:forge.toml: ")
    assert hint in str(caught.value.hint)


def test_load(tmp_path: Path) -> None:
    with pytest.raises(ForgeError, match=r"no forge.toml in .*not a model repository") as caught:
        load_settings(tmp_path)
    assert "git forge init" in str(caught.value.hint)
    (tmp_path / "forge.toml").write_text(MINIMAL)
    assert load_settings(tmp_path) == SETTINGS
