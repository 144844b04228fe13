"""Which texts are licences: SPDX expressions, and terms of one's own in SPDX's form."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forge.errors import ForgeError
from forge.recipe.card import read_card
from forge.recipe.card import to_toml as card_text
from forge.recipe.licences import check_license
from forge.recipe.settings import choose_settings, read_settings, to_toml

SETTINGS = 'format = 1\n{top}[base]\nreference = "embedded"\nfingerprint = "sha256:0"\n{base}'
CARD = '{top}[task]\nname = "breast"\nlabels = ["a", "b"]\n[base]\nreference = "embedded"\nfingerprint = "sha256:0"\n'


@pytest.mark.parametrize(
    "expression",
    [
        "Apache-2.0",
        "CC-BY-NC-4.0",
        "MIT OR Apache-2.0",
        "GPL-2.0-or-later WITH Classpath-exception-2.0",
        "LicenseRef-consortium-2026",
        "DocumentRef-agreement:LicenseRef-1",
        "CC-BY-4.0 AND (LicenseRef-a OR LicenseRef-b.c)",
    ],
)
def test_a_licence(expression: str) -> None:
    assert check_license(expression, "license") == expression


@pytest.mark.parametrize(
    "value",
    [
        "free for research", "Apache-2", "MIT OR", "(MIT", "MIT Apache-2.0", "NOASSERTION", "LicenseRef-",
        "xLicenseRef-a", "LicenseRef-a LicenseRef-b", "LicenseRef-é", "Apache-2.0 WITH LicenseRef-a", "MIT\n",
        "MIT\x1b[31m", "", "  ", 3, True, ["MIT"], {"id": "MIT"}, "(" * 5000 + "MIT" + ")" * 5000,
    ],
)  # fmt: skip
def test_no_licence(value: object) -> None:
    with pytest.raises(ForgeError, match=r"^license "):
        check_license(value, "license")


def test_settings_state_the_licence_of_the_model_and_of_its_base() -> None:
    settings = read_settings(SETTINGS.format(top='license = "Apache-2.0"\n', base='license = "LicenseRef-weights"\n'))
    assert (settings.license, settings.base_license) == ("Apache-2.0", "LicenseRef-weights")
    assert read_settings(to_toml(settings)) == settings
    plain = read_settings(SETTINGS.format(top="", base=""))
    assert (plain.license, plain.base_license) == (None, None)
    assert "license" not in to_toml(plain)
    assert read_settings(to_toml(choose_settings(plain.base, "best", "fusion", False, "MIT"))).license == "MIT"


@pytest.mark.parametrize(
    ("top", "base", "what"),
    [
        ('license = "mine"\n', "", "license is no SPDX license expression: 'mine'"),
        ('license = ["MIT"]\n', "", "license must be text"),
        ("", 'license = "mine"\n', "base.license is no SPDX license expression: 'mine'"),
        ("[license]\nid = 1\n", "", "license must be text"),
    ],
)
def test_settings_with_a_wrong_licence(top: str, base: str, what: str) -> None:
    with pytest.raises(ForgeError) as caught:
        read_settings(SETTINGS.format(top=top, base=base), "main:forge.toml")
    assert caught.value.message.startswith(f"main:forge.toml: {what}")


def test_a_card_states_the_licence_of_its_contribution() -> None:
    card = read_card(CARD.format(top='license = "CC-BY-NC-4.0"\n'))
    assert card.license == "CC-BY-NC-4.0"
    assert read_card(card_text(card)) == card
    assert read_card(CARD.format(top="")).license is None


def test_a_card_with_a_wrong_licence() -> None:
    with pytest.raises(
        ForgeError, match=r"^contributions/breast/card.toml: license is no SPDX .*: 'none of it'"
    ) as caught:
        read_card(CARD.format(top='license = "none of it"\n'), "contributions/breast/card.toml")
    assert "https://spdx.org/licenses" in (caught.value.hint or "")


def test_where_no_licence_is_stated_nothing_is_loaded_for_it() -> None:
    program = (
        "import sys; from forge.recipe.settings import read_settings; from forge.recipe.card import read_card\n"
        f"read_settings({SETTINGS.format(top='', base='')!r}); read_card({CARD.format(top='')!r})\n"
        "assert 'cyclonedx' not in sys.modules and 'license_expression' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
