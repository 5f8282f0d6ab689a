"""Work items of a worklist (Unified Procedure Steps), performed: claimed, segmented, completed."""
