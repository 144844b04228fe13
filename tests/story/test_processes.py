"""Several processes that share the work of a verb give what one gives; where one fails, people read one message."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from examples.generated.image_folder import write_image_folder
from examples.generated.tasks import make_task

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def forge(folder: Path, *args: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    several = ["--processes", str(processes)] if processes > 1 else []
    return subprocess.run(
        [sys.executable, "-m", "forge", *args, *several],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | ONE_THREAD,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-one generated images of breast tissue, which no even number of processes shares evenly."""
    folder = tmp_path_factory.mktemp("data")
    write_image_folder(folder, *make_task("breast", "train", 41, 0))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Path]:
    """A model repository with a contribution that one process has made, and one that two have made."""
    one, two = (tmp_path_factory.mktemp("models") / name for name in ("one", "two"))
    subprocess.run(["git", "init", "--quiet", one], check=True)
    assert forge(one, "init").returncode == 0
    shutil.copytree(one, two)
    for top, processes in ((one, 1), (two, 2)):
        trained = forge(top, "train", "breast", "--data", str(data), "--epochs", "2", processes=processes)
        assert trained.returncode == 0, trained.stderr
        assert trained.stdout.count("Trained contributions/breast") == 1
        args = ("distill", "breast", "--data", str(data), "--ipc", "3", "--steps", "4", "--method", "dm-dsa")
        distilled = forge(top, *args, processes=processes)
        assert distilled.returncode == 0, distilled.stderr
        assert forge(top, "commit").returncode == 0
    return one, two


def test_two_processes_train_the_adapter_of_one(models: tuple[Path, Path]) -> None:
    one, two = (load_file(top / "contributions/breast/adapter_model.safetensors") for top in models)
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5)
    cards = [(top / "contributions/breast/card.toml").read_text().split("[training]")[1] for top in models]
    assert cards[0].split("[")[0] == cards[1].split("[")[0]


def test_two_processes_distil_the_images_of_one(models: tuple[Path, Path]) -> None:
    one, two = (load_file(top / "contributions/breast/distilled.safetensors") for top in models)
    assert int((one["images"].int() - two["images"].int()).abs().max()) <= 1  # of 255 levels
    assert torch.equal(one["labels"], two["labels"])


def test_two_processes_measure_what_one_does(models: tuple[Path, Path], data: Path) -> None:
    args = ("evaluate", "HEAD", "--data", str(data), "--json")
    one, two = (forge(models[0], *args, processes=processes) for processes in (1, 2))
    assert two.returncode == 0
    assert one.stdout == two.stdout and one.stderr == two.stderr


def test_what_is_wrong_is_said_once(models: tuple[Path, Path]) -> None:
    failed = forge(models[0], "train", "lung", "--data", "nowhere", processes=2)
    assert failed.returncode == 128
    assert failed.stderr.count("error:") == 1 and "no such data: nowhere" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    "variables",
    [{"WORLD_SIZE": "many"}, {"WORLD_SIZE": "1", "RANK": ""}, {"WORLD_SIZE": "2", "RANK": "first"}],
    ids=str,
)
def test_what_is_no_number_was_set_by_no_launcher(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    failed = forge(models[0], "train", "lung", "--data", "nowhere")
    assert failed.returncode == 128 and "no such data: nowhere" in failed.stderr, failed.stderr
    assert "Traceback" not in failed.stderr


def test_processes_that_cannot_meet_say_so(
    models: tuple[Path, Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # and no address
    failed = forge(models[0], "train", "lung", "--data", str(data), "--epochs", "1")
    assert failed.returncode == 128
    assert "error: the processes of this run could not meet" in failed.stderr and "MASTER_ADDR" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_process_that_is_killed_ends_all_with_one_message(models: tuple[Path, Path], data: Path) -> None:
    args = ["train", "lung", "--data", str(data), "--epochs", "100000", "--processes", "2"]
    running = subprocess.Popen(
        [sys.executable, "-m", "forge", *args], cwd=models[0], stderr=subprocess.PIPE, text=True,
        env=os.environ | ONE_THREAD,
    )  # fmt: skip
    try:
        children: list[int] = []
        for _ in range(600):
            children = [
                int(each) for each in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            ]
            if len(children) == 2 and all(_seconds(each) > 5 for each in children):  # beyond what loading takes
                break
            time.sleep(0.1)
        os.kill(children[1], signal.SIGKILL)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 128
    assert said.count("error:") == 1 and "process 2 of 2 was ended by SIGKILL; the others were stopped" in said
    assert "Traceback" not in said
    assert not (models[0] / "contributions/lung").exists()
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def _seconds(process: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
