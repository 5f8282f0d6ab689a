"""The formats that a bundle can be exported to, one module each, behind one table."""
