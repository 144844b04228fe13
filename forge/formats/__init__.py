"""The files that a model is made of, one format a module: checked without trust, written in one canonical way."""
