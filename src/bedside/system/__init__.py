"""Files, memory, processes and signals of the machine; no images."""
