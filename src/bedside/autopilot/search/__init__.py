"""Networks for a budget of milliseconds: drawn, timed, trained by halving."""
