"""Generated images: what the embedded base is trained on, and tissue-like tasks to try the method with."""
