"""A builder of plans that does what its first argument says; it is run as a process of its own.

Its plans are scripts of the scripted runtime. It uses the standard library only, so that it starts at once.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

CAPABILITY, SM_COUNT, VERSION = (8, 9), 128, "11.4.0.106"
GREEDY_BYTES = 200 << 20


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def build(script: Path, order: dict[str, str]) -> None:
    model = Path(order["model"])
    kind = ".int8" if order["precision"] == "int8" else ""
    plan = model.with_name(f"{model.stem}.cc_8.9_sm_128{kind}.engine")
    plan.write_bytes(script.read_bytes())
    record = {
        "plan_sha256": hashlib.sha256(plan.read_bytes()).hexdigest(),
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "precision": order["precision"],
        "library": "tensorrt",
        "library_version": VERSION,
        "capability": CAPABILITY,
        "sm_count": SM_COUNT,
        "gpu": "Fake 4090",
    }
    plan.with_name(plan.name + ".record").write_text(json.dumps(record))
    say(type="built", plan=str(plan))


def main() -> None:
    behaviour, script, order = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    script.with_name("pid").write_text(str(os.getpid()))
    say(type="progress", percent=40, doing="Timing tactics")
    match behaviour:
        case "builds":
            build(script, order)
        case "builds noisily":
            print("[TRT] [W] something that a native library prints\n{" + "x" * 100_000, flush=True)
            build(script, order)
        case "refuses":
            detail = "TensorRT does not take ConvInteger (64 nodes)"
            say(type="not built", failure={"code": "engine_unavailable", "detail": detail})
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exits":
            sys.exit("MemoryError: too much")
        case "hangs":
            sys.stdin.read()
        case "is deaf":
            while True:
                time.sleep(60)
        case "is greedy":
            kept = b"x" * GREEDY_BYTES
            sys.stdin.read(len(kept[:1]))


if __name__ == "__main__":
    main()
