"""Layout of every HTML page: one style for screen, phone, dark mode and A4.

A page needs nothing beside it and runs no scripts. What is wider than a small screen scrolls by
itself; the page does not.
"""

from collections.abc import Iterable
from html import escape

_STYLE = """
@page { size: A4; margin: 10mm }
:root { color-scheme: light dark; --ink: #1b1f24; --quiet: #59636e; --line: #d8dee4;
  --paper: #fff; --note: #fff5d6; --edge: #d4a72c }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --quiet: #9aa5b0;
  --line: #343b43; --paper: #15181c; --note: #332b12; --edge: #b08a24 } }
* { box-sizing: border-box }
html { -webkit-print-color-adjust: exact; print-color-adjust: exact;
  -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body { font: 14px/1.4 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 980px; margin: 0 auto; padding: 12px }
h1 { font-size: 21px; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 15px; margin: 14px 0 3px }
header { border-bottom: 2px solid var(--ink); padding-bottom: 5px; margin-bottom: 8px }
p { margin: 3px 0 } .quiet { color: var(--quiet) }
.notice { font-weight: 600 }
.warnings { background: var(--note); border-left: 4px solid var(--edge); padding: 6px 12px;
  margin: 8px 0 }
.warnings h2 { margin-top: 0 }
ul { margin: 0; padding-left: 18px } li { overflow-wrap: anywhere }
.scroll { overflow-x: auto }
img { display: block; max-width: 100%; margin: 8px auto; background: #111 }
svg { display: block; width: 100%; height: auto }
table { border-collapse: collapse; width: 100%; font-size: 13px }
th, td { text-align: right; padding: 3px 6px; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap }
th { font-weight: 600; color: var(--quiet); white-space: normal; vertical-align: bottom }
th:first-child, td:first-child { text-align: left }
td.text { text-align: left; overflow-wrap: anywhere; white-space: normal }
.words th, .words td { text-align: left; vertical-align: top }
.words td { white-space: normal; min-width: 4.5em }
.patch { display: inline-block; width: 11px; height: 11px; margin-right: 6px;
  border: 1px solid var(--quiet) }
.columns { display: grid; grid-template-columns: 1fr 1fr; gap: 0 18px }
.columns > * { min-width: 0 }
footer { border-top: 2px solid var(--ink); margin-top: 12px; padding-top: 4px }
code { font-size: 10px; overflow-wrap: anywhere }
@media screen and (max-width: 600px) { .columns { grid-template-columns: 1fr }
  .wide { width: 760px; max-width: none } .words { min-width: 760px } }
@media print { body { padding: 0; max-width: 190mm; font-size: 12px }
  section { break-inside: avoid } table { font-size: 11px } h1 { font-size: 19px }
  h2 { font-size: 13px; margin: 9px 0 2px } img { max-height: 92mm } }
"""


def write_page(title: str, parts: Iterable[str]) -> str:
    """Write a page.

    Args:
        title: What the browser's tab shows.
        parts: Pieces of HTML.
    """
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def write_table(head: Iterable[str], rows: Iterable[Iterable[str]], *, words: bool = False) -> str:
    """Write a table, which scrolls where it is wider than the screen.

    Args:
        head: Text of the first row.
        rows: Cells, as HTML.
        words: Whether cells hold words rather than numbers: they start at the left.
    """
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="words"' if words else ""
    return f'<div class="scroll"><table{kind}><tr>{header}</tr>{body}</table></div>'
