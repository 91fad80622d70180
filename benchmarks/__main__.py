"""Every promise, measured one after the other: `make bench`, or `python -m benchmarks NAME …` for some of them."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = {
    "first_detection": [],
    "memory": [],
    "pipeline": ["--model", "models/aerial-vehicle.onnx"],
    "preprocess": [],
    "sync_image": [],
    "tiles": [],
    "many_videos": [],
    "triton": [],
    "upload": [],
    "sse": [],
    "accuracy": [],
    "postprocess": [],
    "gpu": [],
    "gpu_host": [],
    "posts": [],
    "auth": [],
    "page": [],
    "shots": [],
    "shots_latency": [],
    "metrics": [],
}


def main() -> int:
    wanted = sys.argv[1:] or list(SCRIPTS)
    if unknown := set(wanted) - set(SCRIPTS):
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
        return 2
    root = Path(__file__).resolve().parent.parent
    return max(
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *SCRIPTS[name]], cwd=root, check=False).returncode
        for name in wanted
    )


if __name__ == "__main__":
    sys.exit(main())
