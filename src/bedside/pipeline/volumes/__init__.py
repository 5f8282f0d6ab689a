"""3D networks: scans whole, from slices to labels on their grid."""
