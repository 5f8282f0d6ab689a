"""The table of commands."""

# Command -> its line in `bedside --help`, the first of its own help. `bedside.cli.NAME` has
# `Settings` (a frozen dataclass) and `run(settings) -> exit code`; it is loaded when it is named.
COMMANDS = {
    "demo": "Segment the ultrasound cine that comes with pydicom.",
    "segment": "Segment images, cines and scans: masks, pictures and a report.",
    "stream": "Segment frames as they come: a film at its own rate, a video, a camera, a pipe.",
    "serve": "Serve segmentation to other programs: HTTP, live frames, DICOM, a web page.",
    "models": "List the shipped bundles: task, modality, size, accuracy, licence of the data.",
    "inspect": "Print the model card of a bundle, after checking its hashes.",
    "evaluate": "Score a bundle on images with expert labels, on their own grid.",
    "recipe": "Survey a data set and write a recipe for `bedside train`.",
    "train": "Train from a recipe, or resume the training.",
    "pretrain": "Train a network on images without labels, for a training to start from.",
    "unpack": "Write the network of a bundle as a finished run.",
    "build": "Turn a finished training run into a bundle, measured on the test patients.",
    "certify": "Measure a bundle in every installed backend and precision, for a new card.",
    "gate": "Fit a bundle's gate: what its training images look like, so that others are noticed.",
    "calibrate": "Calibrate how sure a bundle's masks are, structure by structure.",
    "compress": "Compress a trained network to a budget, without loss on the validation patients.",
    "search": "Find the network to train for a latency budget on this machine.",
    "export": "Export a bundle to another runtime's format, run it there, and certify it.",
    "chips": "List the edge chips that a bundle can be checked against and exported for.",
    "bench": "Measure the cost of bundles, streams, or attention mechanisms, on this machine.",
    "sign": "Add a signature to a bundle, made with a private key.",
    "verify": "Check that a bundle is signed by a given key and unchanged since.",
    "keygen": "Create an Ed25519 key pair: NAME.pem (private) and NAME.pub.pem (public).",
    "evidence": "Write a pack of evidence for a bundle, or verify one without a network.",
    "replay": "Segment a case again from its report.json, and compare the labels.",
    "audit": "Check the hashes that chain the lines of a server's audit log.",
    "completion": "Print a script for the completion of commands, options and values by a shell.",
}
