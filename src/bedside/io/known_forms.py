"""Formats that are recognised but not supported, for clear error messages."""

_FIRST_BYTES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"BZh", "compressed by bzip2", "Decompress it with bunzip2"),
    (0, b"\xfd7zXZ\0", "compressed by xz", "Decompress it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", "Decompress it with unzstd"),
    (0, b"PK\x03\x04", "a zip archive", "Unpack it"),
    (257, b"ustar", "a tar archive", "Unpack it"),
    (0, b"\x89HDF", "an HDF5 file, such as MINC 2", "Convert it to NIfTI"),
    (0, b"CDF", "a netCDF file, such as MINC 1", "Convert it to NIfTI"),
    (0, b"\0\0\0\x01\0\0", "a FreeSurfer volume (MGH)", "Convert it to NIfTI"),
    (0, b"\x93NUMPY", "an array of NumPy", "Save it as NIfTI, with its spacing and place"),
    (0, b"II*\0", "a TIFF picture", "Convert it to PNG"),
    (0, b"MM\0*", "a TIFF picture", "Convert it to PNG"),
    (0, b"II+\0", "a BigTIFF picture", "Convert it to PNG"),
    (0, b"GIF8", "a GIF picture", "Convert it to PNG"),
    (252, b"\xef\xff\xe9\xb0", "a GIPL volume", "Convert it to NIfTI"),
    (0, b"# === DATA DESCRIPTION FILE", "a Philips PAR header", "Convert it to NIfTI"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", "Convert it to PNG"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream", "Convert it to PNG"),
    (8, b"WEBP", "a WebP picture", "Convert it to PNG"),
    (8, b"AVI ", "an AVI film", "Save its frames as PNG"),
    (4, b"ftyp", "an MP4 film", "Save its frames as PNG"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska film", "Save its frames as PNG"),
    (0, b"# vtk DataFile", "a VTK file", "Convert it to NIfTI"),
    (0, b"%PDF", "a PDF document", "Name the image itself"),
)


def name_form(head: bytes) -> str | None:
    """Return the name of an unsupported format, with advice.

    Args:
        head: The first 1024 bytes of a file.

    Returns:
        The end of a sentence that begins with the file's name; None for an unknown format.

    Example:
        >>> name_form(b"BZh91AY")
        'is compressed by bzip2, which is not read. Decompress it with bunzip2.'
    """
    for offset, first, form, way_out in _FIRST_BYTES:
        if head[offset : offset + len(first)] == first:
            return f"is {form}, which is not read. {way_out}."
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "is a BMP picture, which is not read. Convert it to PNG."
    if b"<GIFTI" in head:
        return "is GIFTI, a surface and no image, which is not read. Name a volume."
    return None
