"""The web page: files that a server sends, or that lie in a folder.

Without a server behind it the page runs 2D networks by itself; `static/` is that page, and
`vendor/` the runtime that `python -m bedside.web.vendor` fetches.
"""
