"""MetaImage: header and data, in one file or several."""
