"""git itself: starting it, what it holds, what it is in the middle of, git-lfs. Knows nothing of models."""
