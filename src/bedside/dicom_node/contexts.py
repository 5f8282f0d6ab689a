"""What the node accepts: images of these classes, in these transfer syntaxes, and C-ECHO."""

from pydicom import uid
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from bedside.dicom_node.sending.dimse import COMMITMENT

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


def accepted_contexts(*, with_reports: bool = False) -> list[PresentationContext]:
    """Return the presentation contexts that the node accepts.

    Args:
        with_reports: Whether reports of storage commitment are taken too.
    """
    contexts = [build_context(each, [*TRANSFER_SYNTAXES]) for each in IMAGE_CLASSES]
    contexts.append(build_context(Verification, [*TRANSFER_SYNTAXES[:2]]))
    if with_reports:
        report = build_context(COMMITMENT, [*TRANSFER_SYNTAXES[:2]])
        report.scu_role, report.scp_role = False, True  # the archive performs the service
        contexts.append(report)
    return contexts
