"""Results for people and programs: pictures, HTML, JSON, DICOM SR."""
