"""What makes git say the same to everybody: for each git whose words are read, whatever the user has set.

A setting, a variable or a language of the user's may change what git prints, and then what is read from it.
"""

from __future__ import annotations

from typing import Literal

# In the environment. A value, never a gap: what is started may be given more variables, and cannot be given fewer.
VARIABLES = {
    # git's words in English, by which hints are found; file names in UTF-8 for the hooks and filters that it starts.
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "",
    "GIT_PAGER_IN_USE": "0",
}
# Editors (Magit, Neogit) set these for hooks. Every pathspec of ours says itself how it is meant.
PATHSPECS = {
    "GIT_LITERAL_PATHSPECS": "0",
    "GIT_GLOB_PATHSPECS": "0",
    "GIT_NOGLOB_PATHSPECS": "0",
    "GIT_ICASE_PATHSPECS": "0",
}

# On the command line, before the verb.
_SETTINGS = {
    "color.ui": "false",
    "core.quotePath": "true",
    "core.safecrlf": "false",  # line ends are .gitattributes' to say, and what was stored is read back
    "diff.ignoreSubmodules": "none",
    "diff.relative": "false",
    "i18n.logOutputEncoding": "UTF-8",
    "log.follow": "false",
    "log.showRoot": "true",
    "log.showSignature": "false",
    "status.relativePaths": "false",
}
SETTINGS = tuple(word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}"))

Verb = Literal["log", "show", "diff", "diff-files", "diff-index", "diff-tree"]

_OF_DIFFS = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "-O/dev/null")
# Nor does .mailmap of a branch say who is named.
_OF_COMMITS = (*_OF_DIFFS, "--no-notes", "--no-mailmap", "--no-decorate")


def quiet(verb: Verb) -> tuple[str, ...]:
    """The first arguments of a git that shows commits or differences: it prints what the others ask for alone."""
    return (verb, *(_OF_COMMITS if verb in ("log", "show") else _OF_DIFFS))
