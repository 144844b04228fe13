"""`python -P -m forge`: the same as `git-forge`.

git starts its drivers and hooks in the top folder of the work tree, and without -P Python looks for modules there
first. Earlier versions recorded it without: then that folder goes before anything else is imported.
"""

import sys

if not sys.flags.safe_path:
    del sys.path[0]

from forge.cli import main

main()
