"""The formats that a bundle can be exported to, one module each, behind one table."""

from bedside.export.formats.table import FORMATS, Converter, Format, Options, find_format

__all__ = ["FORMATS", "Converter", "Format", "Options", "find_format"]
