"""Models made by hand read nobody's settings, and what a test sets for all clones stays in the test's home."""

from __future__ import annotations

from pathlib import Path

from sample_models import SampleModel, no_settings


def test_what_is_set_for_all_clones_goes_to_a_file_of_the_tests_home(tmp_path: Path, isolated_home: Path) -> None:
    model = SampleModel(tmp_path / "model")
    assert model.git("config", "--global", "--list") == ""
    assert Path(no_settings()).parent == isolated_home  # before anything is written: root may replace a device
    model.git("config", "--global", "sample.key", "x")
    assert Path(no_settings()).read_text() == "[sample]\n\tkey = x\n"
    model.git("config", "--global", "--remove-section", "sample")
