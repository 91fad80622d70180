"""Plan files, what TensorRT makes of a model for one kind of GPU: their names, their records, and whether they still fit.

A plan is executable code, so it is loaded only if its checksum is the one in the record that its builder wrote beside it
(`<plan>.record`), or the one that an operator has put into the model's side file.
"""

import hashlib
import re
from pathlib import Path
from typing import Literal

import msgspec

from contracts.failures import Failure, FailureCode
from contracts.whole_files import replace_file
from engine.devices.memory import GpuFacts
from engine.side_files import read_side_file

PLAN_SUFFIX = ".engine"
Precision = Literal["fp32", "fp16", "int8"]
_NAME = re.compile(r"(?P<model>.+)\.cc_\d+\.\d+_sm_\d+(\.int8)?\.engine")
_RECORD_BYTES_MAX = 1_000_000
_PREFIX_BYTES_MAX = 1_000_000
"""Of the metadata that Ultralytics writes before a plan; a plan itself begins with a number far beyond it."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison with the ONNX file said (`engine/agreement.py`)."""

    is_enough: bool
    agreement: str
    """In numbers."""
    pictures: str = ""
    """Digest of the operator's pictures by which it was built and judged: with others it may be another one."""


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder says of its plan."""

    plan_sha256: str
    model_sha256: str
    """Of the ONNX file it was made of."""
    precision: Precision
    library: str
    """`tensorrt` or `tensorrt_rtx`."""
    library_version: str
    """A plan runs with this very version only."""
    capability: tuple[int, int]
    sm_count: int
    gpu: str
    metadata: dict[str, str] = {}
    """Of the ONNX file: class names and the like."""
    verdict: Verdict | None = None
    """None: it has not been compared yet."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A plan whose checksum was as stated."""

    name: str
    content: bytes
    library: str
    metadata: dict[str, str]


def is_plan(path: Path) -> bool:
    """True for a file that only TensorRT can run."""
    return path.suffix == PLAN_SUFFIX


def plan_path(model: Path, gpu: GpuFacts, precision: Precision) -> Path:
    """Where the plan of an ONNX file for such a GPU lies (CONTRACT 3)."""
    major, minor = gpu.capability
    kind = ".int8" if precision == "int8" else ""
    return model.with_name(f"{model.stem}.cc_{major}.{minor}_sm_{gpu.sm_count}{kind}{PLAN_SUFFIX}")


def model_of(path: Path) -> Path:
    """The ONNX file that a plan was made of, by its name: its side file is the plan's, too. Any other path is its own."""
    if not is_plan(path):
        return path
    named = _NAME.fullmatch(path.name)
    return path.with_name(named["model"] + ".onnx") if named else path.with_suffix(".onnx")


def record_path(plan: Path) -> Path:
    """Where the record of a plan lies."""
    return plan.with_name(plan.name + ".record")


def read_record(plan: Path) -> PlanRecord | None:
    """The record of a plan; None without a readable one."""
    try:
        with record_path(plan).open("rb") as file:
            return msgspec.json.decode(file.read(_RECORD_BYTES_MAX), type=PlanRecord)
    except (OSError, ValueError):
        return None


def staleness(record: PlanRecord, *, model_sha256: str, gpu: GpuFacts, library_version: str) -> str | None:
    """Why a plan has to be built again; None if it still fits."""
    if record.model_sha256 != model_sha256:
        return "the model is another one"
    if record.library_version != library_version:
        return f"it is of TensorRT {record.library_version}, this is {library_version}"
    if (record.capability, record.sm_count) != (gpu.capability, gpu.sm_count):
        return f"it is for {record.gpu}, this is {gpu.name}"
    return None


def read_plan(path: Path) -> Plan:
    """The plan in a file, without what Ultralytics may have written before it.

    Raises `Failure(model_corrupt)` if nobody vouches for it, or its checksum is another one.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    record = read_record(path)
    stated = record.plan_sha256 if record else read_side_file(model_of(path)).sha256
    if stated is None:
        raise Failure(
            FailureCode.MODEL_CORRUPT,
            f"{path.name}: a plan is code and nobody vouches for this one; if you do, put its sha256 into the side file",
        )
    if stated != digest:
        raise Failure(FailureCode.MODEL_CORRUPT, f"{path.name}: sha256 {digest}, {stated} is stated")
    prefix, plan = _without_prefix(content)
    return Plan(
        name=path.name,
        content=plan,
        library=record.library if record else "tensorrt",
        metadata=record.metadata if record else prefix,
    )


def write_plan(path: Path, content: bytes, record: PlanRecord) -> None:
    """Put a plan and its record in place, the record last: a plan without one is not used."""
    record_path(path).unlink(missing_ok=True)
    replace_file(path, content)
    write_record(path, record)


def write_record(plan: Path, record: PlanRecord) -> None:
    """Put the record of a plan in place."""
    replace_file(record_path(plan), msgspec.json.encode(record))


def move_plan(source: Path, target: Path) -> None:
    """Put a plan and the record beside it in place, the record last."""
    record_path(target).unlink(missing_ok=True)
    source.replace(target)
    record_path(source).replace(record_path(target))


def drop_plan(plan: Path) -> None:
    """As if it had never been built."""
    record_path(plan).unlink(missing_ok=True)
    plan.unlink(missing_ok=True)


def _without_prefix(content: bytes) -> tuple[dict[str, str], bytes]:
    """Metadata and plan of a file of Ultralytics: 4 bytes of length (little-endian), JSON, plan. Others are as they are."""
    length = int.from_bytes(content[:4], "little")
    if length > _PREFIX_BYTES_MAX:
        return {}, content
    try:
        fields = msgspec.json.decode(content[4 : 4 + length], type=dict[str, object])
    except ValueError:
        return {}, content
    return {name: str(_with_numbers(value)) for name, value in fields.items()}, content[4 + length :]


def _with_numbers(value: object) -> object:
    """Class names by number: JSON knows texts as keys only."""
    try:
        return msgspec.convert(value, dict[int, str], strict=False)
    except msgspec.ValidationError:
        return value
