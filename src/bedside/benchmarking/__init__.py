"""What parts of networks cost, measured on this machine."""
