"""2D networks: frames one by one, from decoded frame to labels on its grid."""
