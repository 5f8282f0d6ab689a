"""What the node accepts: images of these classes, in these transfer syntaxes, and C-ECHO."""

from pydicom import uid

IMAGE_CLASSES = (
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.EnhancedUSVolumeStorage,
    uid.XRayAngiographicImageStorage,
    uid.EnhancedXAImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.EnhancedXRFImageStorage,
    uid.XRay3DAngiographicImageStorage,
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.NuclearMedicineImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.EnhancedPETImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.VLEndoscopicImageStorage,
    uid.VideoEndoscopicImageStorage,
    uid.VLPhotographicImageStorage,
    uid.VideoPhotographicImageStorage,
)
"""Storage classes that are accepted. Results (SEG, SR) are not: a rule that sends everything to
the node would send its own results back to it."""

TRANSFER_SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.RLELossless,
)
"""Transfer syntaxes of images. Not deflated ones: their header can only be read by inflating all,
which may be a thousand times as large."""


VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
"""SOP classes of C-ECHO and of storage commitment."""
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
"""SOP class of events of work items."""


def accepted_syntaxes(
    *, with_reports: bool = False, with_events: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return the transfer syntaxes that the node accepts for each SOP class.

    Args:
        with_reports: Whether reports of storage commitment are taken too.
        with_events: Whether events of work items are.
    """
    accepted = {str(each): tuple(map(str, TRANSFER_SYNTAXES)) for each in IMAGE_CLASSES}
    plain = tuple(map(str, TRANSFER_SYNTAXES[:2]))
    accepted[VERIFICATION] = plain
    if with_reports:
        accepted[COMMITMENT] = plain
    if with_events:
        accepted[UPS_EVENT] = plain
    return accepted
