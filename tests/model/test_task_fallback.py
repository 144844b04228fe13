"""Coefficients for unseen label sets, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from forge.model.base import BaseModel
from forge.model.composing import BASE_ALONE, Model, Parts
from forge.model.task_fallback import Labels, blend, label_similarities, mean_best_cosine

LUNG = ("benign lung tissues", "lung adenocarcinomas")
COLON = ("negative colon tumor", "positive colon tumor")
BREAST = ("benign breast tissues", "malignant breast tumors")


def test_a_blend_by_hand() -> None:
    # Shares e^(1 / .5) : e^(.5 / .5), so e : 1.
    share = math.e / (math.e + 1)
    found = blend({LUNG: {"lung": 1.0, "colon": 0.2}, COLON: {"lung": 0.4}}, {LUNG: 1.0, COLON: 0.5}, 0.5)
    assert found == {
        "lung": pytest.approx(share * 1.0 + (1 - share) * 0.4),
        "colon": pytest.approx(share * 0.2),
    }


def test_a_blend_of_modules_by_hand() -> None:
    known = {LUNG: {"lung": {"q": 1.0, "v": 0.5}}, COLON: {"lung": 0.2}, BREAST: {"lung": {"q": -0.6}}}
    found = blend(known, dict.fromkeys(known, 0.3), 1.0)
    assert found == {"lung": {"q": pytest.approx((1.0 + 0.2 - 0.6) / 3), "v": pytest.approx((0.5 + 0.2) / 3)}}


def test_temperatures_go_from_the_nearest_to_the_average() -> None:
    known = {LUNG: {"lung": 1.0}, COLON: {"lung": 0.0}}
    similar = {LUNG: 0.8, COLON: 0.7}
    assert blend(known, similar, 1e-6) == {"lung": 1.0}
    assert blend(known, similar, 1e6) == {"lung": pytest.approx(0.5, abs=1e-6)}
    assert blend({LUNG: {"lung": 0.7}}, {LUNG: -1.0}, 0.1) == {"lung": 0.7}


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_without_a_meaning(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        blend({LUNG: {"lung": 1.0}}, {LUNG: 1.0}, temperature)


def test_similarities_of_other_tasks() -> None:
    for known, similar in (({}, {}), ({LUNG: {"lung": 1.0}}, {COLON: 1.0})):
        with pytest.raises(ValueError, match="every known task"):
            blend(known, similar, 1.0)


def test_the_mean_best_cosine_by_hand() -> None:
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    second = torch.tensor([[1.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    half = math.sqrt(0.5)
    expected = ((1 + half) / 2 + (half + 1 + 0) / 3) / 2
    assert mean_best_cosine(first, second) == pytest.approx(expected)
    assert mean_best_cosine(second, first) == pytest.approx(expected)
    assert mean_best_cosine(second, 5 * second) == pytest.approx(1)


def test_similarities_of_label_sets(base: BaseModel) -> None:
    found = label_similarities(base, LUNG[::-1], [LUNG, COLON])
    assert found[LUNG] == pytest.approx(1, abs=1e-5)
    texts = [base.text_embeddings((label,))[0] for label in LUNG[::-1]]
    others = [base.text_embeddings((label,))[0] for label in COLON]
    best = [max(float(a @ b) for b in others) for a in texts] + [max(float(a @ b) for a in texts) for b in others]
    assert found[COLON] == pytest.approx(sum(best) / 4, abs=1e-5)
    assert found[COLON] < found[LUNG]


def test_a_model_asks_its_fallback_for_unknown_labels_only() -> None:
    asked: list[Labels] = []
    nearest: Parts = (({}, 0.5),)
    known: Parts = (({}, 0.25),)

    def fallback(labels: Labels) -> Parts:
        asked.append(labels)
        return nearest

    model = Model(BASE_ALONE, {tuple(sorted(COLON)): known}, fallback)
    assert model.parts_for(COLON[::-1]) == known
    assert asked == []
    assert model.parts_for(list(LUNG)) == nearest
    assert asked == [LUNG]
    assert Model(BASE_ALONE, {tuple(sorted(COLON)): known}).parts_for(LUNG) == BASE_ALONE
