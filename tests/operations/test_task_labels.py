"""Which task a data set is about: by the names of its classes, what the first version knows before the next."""

from __future__ import annotations

import pytest

from forge.data.listing import ReadOptions
from forge.data.matching import Given, KnownTask
from forge.errors import ForgeError
from forge.operations.task_labels import VersionTask, ask, unfit, with_grey

BREAST = VersionTask(KnownTask(("benign breast", "malignant breast"), ("benign", "malignant")), "breast", (0.0, 4095.0))
LUNG = VersionTask(KnownTask(("benign lung", "lung cancer", "scar"), ("benign", "cancer", "scar")), "lung")
SWAPPED = VersionTask(KnownTask(("benign breast", "malignant breast"), ("malignant", "benign")), "liar", (0.0, 255.0))
NONE = Given()


@pytest.mark.parametrize(
    ("groups", "classes", "labels"),
    [
        ([[BREAST, LUNG]], ("benign", "malignant"), ("benign breast", "malignant breast")),
        ([[BREAST, LUNG]], ("scar", "cancer"), ("scar", "lung cancer", "benign lung")),
        ([[BREAST, LUNG]], ("Lung Cancer",), ("lung cancer", "benign lung", "scar")),
        ([[BREAST], [SWAPPED]], ("benign", "malignant"), ("benign breast", "malignant breast")),
        ([[], [LUNG], [BREAST]], ("malignant",), ("malignant breast", "benign breast")),
        ([[], []], ("apples", "pears"), ("apples", "pears")),
    ],
)
def test_a_data_set_finds_its_task(
    groups: list[list[VersionTask]], classes: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    found = ask(groups, classes, NONE, "here")
    assert found is not None and found.labels == labels
    assert tuple(found.of_class[name] for name in classes) == labels[: len(classes)]


def test_one_that_fits_none() -> None:
    assert ask([[BREAST, LUNG]], ("apples", "pears"), NONE, "here") is None
    assert ask([[BREAST, LUNG]], ("benign", "pears"), NONE, "here") is None
    message = unfit([[BREAST], [BREAST, LUNG]], ("apples",), "here").message
    assert message.count("benign breast (class benign)") == 1 and "lung cancer (class cancer)" in message


def test_one_that_fits_several() -> None:
    with pytest.raises(ForgeError, match=r"fit more than one task: .*benign breast.*benign lung") as caught:
        ask([[BREAST, LUNG]], ("benign",), NONE, "here")
    assert "--label" in (caught.value.hint or "")
    with pytest.raises(ForgeError, match="fit more than one task"):
        ask([[BREAST, SWAPPED]], ("benign", "malignant"), NONE, "here")


def test_what_is_given_decides() -> None:
    pairs = Given(pairs=("a=malignant breast", "b=benign breast"))
    found = ask([[BREAST, LUNG]], ("a", "b"), pairs, "here")
    assert found is not None and found.of_class == {"a": "malignant breast", "b": "benign breast"}
    found = ask([[BREAST]], ("a", "b"), Given(("a dog", "a cat")), "here")
    assert found is not None and found.labels == ("a dog", "a cat")
    with pytest.raises(ForgeError, match="are numbers"):
        ask([[BREAST]], ("0", "1"), Given(("0", "1")), "here")


def test_the_grey_range_of_a_task() -> None:
    options, labels = ReadOptions(), BREAST.known.labels
    assert with_grey(options, [[BREAST, LUNG]], labels).grey == (0, 4095)
    assert with_grey(options, [[BREAST, LUNG]], LUNG.known.labels).grey is None
    assert with_grey(ReadOptions(grey=(1, 2)), [[BREAST]], labels).grey == (1, 2)
    differing = with_grey(options, [[BREAST, SWAPPED]], labels)
    assert differing.grey is None and "0 to 255, 0 to 4095" in (differing.unsettled or "")
    assert with_grey(options, [[BREAST, SWAPPED]], labels, "breast").grey == (0, 4095)
