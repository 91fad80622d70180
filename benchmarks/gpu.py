"""TensorRT on a GPU: frames/s of our runtime against the bare engine, and the gap when it takes over from ONNX.

`python -m benchmarks.gpu MODEL.onnx [--library tensorrt_rtx]`; without a GPU or TensorRT it says so and measures nothing.
"""

import argparse
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from consumers.convert import machine_here
from contracts.failures import Failure
from contracts.options import DetectionOptions
from engine.batching import Workers
from engine.conversion import BuildOrder, convert
from engine.devices.opening import open_device
from engine.known_picture import KnownPicture
from engine.loading import load_detector
from engine.models import describe
from engine.plans import read_plan
from engine.preprocess import InputRule, Preprocessor, inputs_of, whole_view
from engine.reference_pictures import reference_pictures
from engine.runtime import Tensor
from engine.runtimes.tensorrt import TensorRtRuntime
from engine.tensorrt_engine import TensorRtEngine
from engine.tensorrt_library import LIBRARIES

BATCHES = (1, 8, 32)
MEASURED_S = 5.0
CALLERS = 4
SWITCH_AFTER_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="an ONNX detector with a free batch")
    parser.add_argument("--library", choices=LIBRARIES, default="tensorrt")
    asked = parser.parse_args()
    model, library = asked.model, asked.library
    try:
        machine = machine_here(library)
    except Failure as failure:
        print(f"nothing measured: {failure.detail}")
        return
    if machine is None:
        print("nothing measured: no GPU here")
        return
    if model is None:
        parser.error("a model is needed")
    print(f"{machine.gpu.name}, TensorRT {machine.library_version}, {model.name} in FP16")
    order = BuildOrder(model=str(model), precision="fp16", library=library, batch_max=max(BATCHES))
    plan = convert(order, lambda _share, _doing: True)
    print_speeds(model, plan)
    print_switch(model, plan)


def print_speeds(model: Path, plan: Path) -> None:
    """Frames/s of our runtime, tensors copied in and outputs lent as the product reads them; and of the engine alone with its
    buffers on the GPU."""
    rule = describe(model, provider="cpu").input
    with closing(TensorRtRuntime(read_plan(plan))) as runtime:
        for batch in BATCHES if rule.batch is None else (rule.batch,):
            tensors = shown(rule, batch)
            ours = rate(lambda tensors=tensors: inferred(runtime, tensors), callers=CALLERS) * batch
            bare = bare_rate(plan, tensors) * batch
            print(f"batch {batch:2}: {ours:8.0f} frames/s, the bare engine {bare:8.0f}, ratio {ours / bare:.2f}")


def inferred(runtime: TensorRtRuntime, tensors: Mapping[str, Tensor]) -> None:
    """An inference of which nobody reads the outputs."""
    with runtime.lend(tensors):
        pass


def shown(rule: InputRule, batch: int) -> dict[str, Tensor]:
    """What the model is shown of so many pictures of its own size."""
    view = whole_view(rule, KnownPicture(width=rule.width, height=rule.height))
    return inputs_of(rule, Preprocessor(rule).batch([view] * batch), view.placement)


def rate(call: Callable[[], Any], *, callers: int) -> float:
    """Calls per second of that many callers at once, after a first one that is not counted."""
    call()
    end_s = time.perf_counter() + MEASURED_S

    def loop(_caller: int) -> int:
        done = 0
        while time.perf_counter() < end_s:
            call()
            done += 1
        return done

    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(loop, range(callers))) / MEASURED_S


def bare_rate(plan: Path, tensors: Mapping[str, Tensor]) -> float:
    """Inferences per second on one stream, nothing copied: what the GPU gives at most."""
    device = open_device()
    engine = TensorRtEngine(read_plan(plan))
    context, stream, blocks = engine.context(), device.stream(), []
    for name, tensor in tensors.items():
        assert context.set_input_shape(name, tensor.shape), engine.complaints.taken(name)
    for spec in (*engine.inputs, *engine.outputs):
        size_bytes = int(np.prod(tuple(context.get_tensor_shape(spec.name)))) * np.dtype(spec.dtype).itemsize
        blocks.append(device.alloc(size_bytes))
        context.set_tensor_address(spec.name, blocks[-1].address)

    done, end_s = -1, float("inf")
    while time.perf_counter() < end_s:
        assert context.execute_async_v3(stream.handle), engine.complaints.taken("TensorRT did not start")
        stream.sync()
        if done < 0:  # the first loads the kernels and is not counted
            end_s = time.perf_counter() + MEASURED_S
        done += 1
    for block in blocks:
        block.free()
    del context
    engine.free()
    stream.free()
    device.close()
    return done / MEASURED_S


def print_switch(model: Path, plan: Path) -> None:
    """Pictures are asked for all the time while the engine takes the place of the ONNX file."""
    pictures = list(reference_pictures(model))
    workers = Workers(load_detector(model), count=CALLERS)
    ends: list[float] = []
    failed: list[Failure] = []
    is_over = threading.Event()

    def ask(caller: int) -> None:
        while not is_over.is_set():
            try:
                workers.detect_image(pictures[caller % len(pictures)], DetectionOptions())
            except Failure as failure:
                failed.append(failure)
            ends.append(time.perf_counter())

    with ThreadPoolExecutor(CALLERS) as pool:
        asking = [pool.submit(ask, caller) for caller in range(CALLERS)]
        time.sleep(SWITCH_AFTER_S)
        workers.use(load_detector(plan))
        time.sleep(SWITCH_AFTER_S)
        is_over.set()
        for asked in asking:
            asked.result()
    workers.close()
    gap_ms = max(np.diff(sorted(ends)), default=0.0) * 1000
    print(f"switch from ONNX: {len(ends)} pictures, {len(failed)} failed, longest gap {gap_ms:.0f} ms")


if __name__ == "__main__":
    main()
