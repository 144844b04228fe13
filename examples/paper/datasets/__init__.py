"""The real data sets of MedForge (2025), section 4, read from their released folders; nothing is downloaded.

Each module has a `find_...` that looks for the data set below a folder, and a `load_...` that reads one split of
it as TaskImages at the base's size.
"""

import forge.model  # noqa: F401 (sets how torch's threads wait, before torch is loaded)
