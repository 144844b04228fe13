"""A model repository: where git holds recipes and contributions, and how. Imports nothing heavier than numpy."""
