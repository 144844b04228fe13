"""The git side: recipes, objects, filter, hooks and settings. Imports nothing heavier than numpy."""
