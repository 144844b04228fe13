"""Licences as SPDX expressions, as forge.toml and card.toml state them; nothing is loaded where none is stated."""

from __future__ import annotations

import re

from forge.errors import ForgeError
from forge.recipe.checks import check_text

# SPDX's own form for terms that are on no list, such as a data use agreement between hospitals.
_OWN_TERMS = re.compile(r"(?<![\w.:+-])(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+(?![\w.:+-])")


def check_license(value: object, what: str) -> str:
    """An SPDX license expression, as it was written: "Apache-2.0", "MIT OR Apache-2.0", "LicenseRef-our-terms".

    what: how a message calls it. Raises ForgeError for anything else.
    """
    from cyclonedx.spdx import is_expression

    expression = check_text(value, what)
    # The library knows SPDX's lists alone, so that each of one's own terms is looked at as if it were on them.
    if not is_expression(_OWN_TERMS.sub("MIT", expression)):
        raise ForgeError(
            f"{what} is no SPDX license expression: {expression[:80]!r}",
            hint="use an identifier of https://spdx.org/licenses such as Apache-2.0 or CC-BY-NC-4.0, "
            "or LicenseRef-NAME for terms of your own",
        )
    return expression
