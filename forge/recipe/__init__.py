"""What a model is, as values and as text: forge item, settings, card, three-way merge. No git, no files, no torch."""
