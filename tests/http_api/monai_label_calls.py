"""Calls of MONAI Label's own client, as 3D Slicer's plug-in makes them.

It runs in an environment of its own, where `monailabel` is, with the address and a folder: it
reads calls from its input, one line of JSON each, and answers each with one line.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer calls until the input ends."""
    import warnings

    warnings.simplefilter("ignore")
    from monailabel.client import MONAILabelClient
    from monailabel.client.client import MONAILabelClientException

    client = MONAILabelClient(sys.argv[1], sys.argv[2], client_id="somebody")
    for line in sys.stdin:
        method, arguments = json.loads(line)
        call: Callable[..., Any] = getattr(client, method)
        try:
            answer = {"value": call(**arguments)}
        except MONAILabelClientException as error:
            answer = {"error": error.msg, "status": error.status_code}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    main()
