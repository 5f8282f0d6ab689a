"""Networks of three axes: scans whole, from slices to labels on their grid."""
