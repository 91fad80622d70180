"""What a library would tell its makers."""

import os
from collections.abc import MutableMapping

_VARIABLE = "ORT_DISABLE_TELEMETRY"


def silence(environ: MutableMapping[str, str] = os.environ) -> None:
    """Have onnxruntime tell nobody; called before it is loaded, since loading it begins.

    From 1.29 on its packages send Microsoft each model's file name and hash, timings and an id that they keep in the user's
    cache (its Privacy.md), unless this variable says no. Whoever sets it decides.
    """
    environ.setdefault(_VARIABLE, "1")
