"""What the benchmark of storing stores is a contribution, and arrives as it was by every tool."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path

import pytest

from examples.bench.scale import Runs
from examples.bench.storing import STEPS, TOOLS, Column, Tool, make_contribution, run_round, table
from forge.formats.adapter import check_adapter, check_adapter_config
from forge.formats.distilled import check_distilled

IMAGES = 2


@pytest.fixture(scope="module")
def contribution() -> dict[str, bytes]:
    return make_contribution(images=IMAGES)


def test_the_contribution_is_one_of_a_vit_b_16(contribution: dict[str, bytes]) -> None:
    config = check_adapter_config(contribution["adapter_config.json"], "config")
    adapter = check_adapter(contribution["adapter_model.safetensors"], config, "adapter")
    assert (len(adapter.modules), adapter.parameters, adapter.is_idle) == (25, 610_304, False)
    distilled = check_distilled(contribution["distilled.safetensors"], "distilled")
    assert (distilled.images, distilled.height, distilled.width) == (IMAGES, 224, 224)
    pixels = contribution["distilled.safetensors"][-IMAGES * 3 * 224 * 224 :]
    assert 0.6 < len(zlib.compress(pixels)) / len(pixels) < 0.95  # neither noise nor flat
    assert make_contribution(images=IMAGES) == contribution


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_it_arrives_by_every_tool(
    tool: Tool, contribution: dict[str, bytes], tmp_path: Path, isolated_home: Path
) -> None:
    if tool.name == "git-lfs" and shutil.which("git-lfs") is None:
        pytest.skip("needs git-lfs (apt-get install git-lfs)")
    column = Column()
    run_round(tool, contribution, tmp_path / "round", column)
    assert all(len(runs.cpu) == 1 and runs.cpu[0] > 0 for runs in column.steps.values())
    size = sum(map(len, contribution.values()))
    packed = tool.name == "plain git"
    assert column.sizes["sent"] < size if packed else column.sizes["sent"] > size
    head = json.loads((tmp_path / "round/another/forge-item.json").read_text())
    assert list(head["contributions"]) == ["breast"]


def test_ratios_are_those_of_rounds() -> None:
    columns = {}
    for name, factor in (("one", 1.0), ("other", 2.0)):
        runs = Runs([factor, 3 * factor], [factor, factor], [1.0, 1.0])
        columns[name] = Column(dict.fromkeys(STEPS, runs), dict.fromkeys(("sent", "origin", "clone", "another"), 10**6))
    lines = [line.split() for line in table(columns).splitlines()]
    assert ["all", "CPU", "s", "10.000", "20.000"] in lines
    assert ["lowest-highest", "CPU", "s", "5.000-15.000", "10.000-30.000"] in lines
    assert ["ratio", "to", "one", "CPU", "s", "1.00", "2.00"] in lines
