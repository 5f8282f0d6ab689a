"""Networks of two axes: frames one by one, from decoded frame to labels on its grid."""
