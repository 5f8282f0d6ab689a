"""DICOM files without an image to segment, recognised by their class."""

import re

# Storage classes without an image to segment, by what follows 1.2.840.10008.
_NO_IMAGE = {
    b"1.3.10": "a DICOMDIR, an index of files",
    b"5.1.4.1.1.66": "a DICOM segmentation",
    b"5.1.4.1.1.88": "a structured report",
    b"5.1.4.1.1.11": "a presentation state",
    b"5.1.4.1.1.9": "a waveform",
    b"5.1.4.1.1.104": "an encapsulated document",
    b"5.1.4.1.1.481": "a radiotherapy structure set, plan or record",
}
# The class as file meta information or the data set itself states it, with or without a VR.
_CLASS = re.compile(
    rb"(?:\x02\0\x02\0|\x08\0\x16\0)(?:UI..|..\0\0)1\.2\.840\.10008\."
    rb"(1\.3\.10|5\.1\.4\.1\.1\.(?:66|88|11|9|104|481(?=\.[3-9])))(?:\.|\0|\x02|\x08|$)",
    re.DOTALL,
)


def why_no_image(head: bytes) -> str | None:
    """Return the kind of a file that holds no image, such as "is a DICOM segmentation"; else None.

    Args:
        head: Its first 4096 bytes.
    """
    found = _CLASS.search(head)
    return found and f"is {_NO_IMAGE[found[1]]}"
