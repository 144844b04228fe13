"""`python -m forge`: the same as `git-forge`."""

from forge.cli import main

main()
