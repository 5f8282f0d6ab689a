"""Untrusted files, decoded by a child process with limits."""
