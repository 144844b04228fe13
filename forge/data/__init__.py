"""Pictures and their classes from disk, as they are there: what is read, what is not and why. No torch.

Nothing goes by position, and nothing is left out in silence.
"""
