"""Medical image segmentation that runs where the patient is.

The data way is `bedside.segment`, the model way `bedside.build`; they meet at
`bedside.spec` and `bedside.bundle`. Research use, not a medical device.
"""

from bedside.system.telemetry import turn_telemetry_off

__version__ = "0.1.0"

turn_telemetry_off()
