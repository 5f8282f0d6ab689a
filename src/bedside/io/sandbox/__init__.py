"""Files from outside, decoded by a child process with limits."""
