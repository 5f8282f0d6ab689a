"""What networks and their blocks cost on this machine."""
