"""The repositories of the stories, for faults to befall."""

from __future__ import annotations

from story.conftest import base, base_folder, contributions, hospitals, merged, model

__all__ = ["base", "base_folder", "contributions", "hospitals", "merged", "model"]
