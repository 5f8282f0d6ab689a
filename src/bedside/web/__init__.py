"""The web page: files that a server sends, or that lie in a folder."""
