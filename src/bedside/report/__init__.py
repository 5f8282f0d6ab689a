"""What people and programs read of a result: pictures, pages, records, DICOM SR."""
