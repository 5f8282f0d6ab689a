"""What repairs of scans load when they first need it is loaded before anything is timed."""

import scipy.ndimage  # noqa: F401
