"""The verbs of `git forge`, one a file; each exposes a click command named `command`, or a plain function for git."""
