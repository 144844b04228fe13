"""Generated images: what the embedded base is trained on, and tissue-like tasks to try the method with."""

import os

# Read when torch is loaded. Threads that wait by spinning take the core from whoever else needs it: with one
# other process on two cores a training step took six times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
