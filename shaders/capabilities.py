"""What a device can do: a record that plans are made from, taken from a device or from a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from .errors import ShaderError

DeviceType = Literal["discrete", "integrated", "virtual", "cpu", "other"]


@dataclass(frozen=True, slots=True, order=True)
class MatrixShape:
    """A cooperative matrix product the device multiplies: a[m, k] @ b[k, n] + c[m, n] -> result.

    Args:
        a, b, c, result: element dtypes.
        scope: "subgroup" or "workgroup".
        saturating: whether integer sums may be clamped.
    """

    m: int
    n: int
    k: int
    a: str
    b: str
    c: str
    result: str
    scope: str
    saturating: bool = False

    def __str__(self) -> str:
        """Return sizes and dtypes, as schedules print them."""
        return f"{self.m}x{self.n}x{self.k}:{self.a}->{self.result}"


@dataclass(frozen=True, slots=True, order=True)
class FlexibleMatrix:
    """A family of products under NV_cooperative_matrix2: every size that is a multiple of a granularity.

    Args:
        invocations: size of the workgroup a workgroup-scope product needs; 0 at subgroup scope.
    """

    m_granularity: int
    n_granularity: int
    k_granularity: int
    a: str
    b: str
    c: str
    result: str
    scope: str
    invocations: int
    saturating: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Facts about one device under one driver.

    Args:
        driver_version: as the driver writes it for people.
        subgroup_size: the size the driver picks; `min_subgroup_size` to `max_subgroup_size` can be required.
        subgroup_operations: of "basic", "vote", "arithmetic", "ballot", "shuffle", "shuffle_relative", "clustered",
        "quad",
            "rotate".
        has_bf16_matrix: whether matrices of bf16 can be declared; which products exist is in `matrices`.
        storage_8, storage_16: whether buffers may hold 8-bit and 16-bit elements.
        atomic_f32_add, atomic_i64: atomics on buffers.
        max_groups: workgroups of one dispatch along x, y and z.
        max_buffer_bytes: the largest range one kernel may reach through a descriptor; addresses reach all of an
        allocation.
        matrices_nv: empty without NV_cooperative_matrix2.
        features_nv: of "workgroup_scope", "flexible_dimensions", "reductions", "conversions", "per_element",
            "tensor_addressing", "block_loads".
        float_controls: modes of SPV_KHR_float_controls the builder may ask for, such as "rounding_rte_32".
        unified_memory: whether the host and the device share one memory.
        host_import_alignment: bytes, or None where host pages cannot be imported.
    """

    device_name: str
    driver_name: str
    driver_version: str
    vendor_id: int
    device_id: int
    device_type: DeviceType
    subgroup_size: int
    min_subgroup_size: int
    max_subgroup_size: int
    subgroup_operations: frozenset[str]
    has_f16: bool
    has_bf16_matrix: bool
    has_f64: bool
    has_i64: bool
    has_i8: bool
    has_i16: bool
    storage_8: bool
    storage_16: bool
    atomic_f32_add: bool
    atomic_i64: bool
    max_shared_bytes: int
    max_invocations: int
    max_groups: tuple[int, int, int]
    max_buffer_bytes: int
    max_push_bytes: int
    matrices: tuple[MatrixShape, ...] = ()
    matrices_nv: tuple[FlexibleMatrix, ...] = ()
    features_nv: frozenset[str] = frozenset()
    float_controls: frozenset[str] = frozenset()
    float_controls2: bool = False
    timestamp_period_ns: float = 0.0
    unified_memory: bool = False
    host_import_alignment: int | None = None

    @property
    def is_cpu(self) -> bool:
        """Whether the device is a program on the host's processor, where barriers and shared memory cost most."""
        return self.device_type == "cpu"

    @property
    def loop_rounds(self) -> int | None:
        """How often the loops of one invocation may go round in all; `None` for as often as they like.

        llvmpipe counts the rounds of all loops together, nested ones too, and leaves every loop once it has counted
        65,535 (LP_MAX_TGSI_LOOP_ITERATIONS in Mesa's lp_bld_limits.h). Results are then wrong without a word.
        """
        return 65535 if self.driver_name == "llvmpipe" else None

    @property
    def keeps_exp2(self) -> bool:
        """Whether `exp2` of 0 to 1 is right to the 5 units that Vulkan asks for; llvmpipe's is off by 45."""
        return self.driver_name != "llvmpipe"

    @property
    def has_short_tanh(self) -> bool:
        """Whether `tanh` of 16 bits is one instruction, right to 2^-10.5 for any f32: NVIDIA's since Turing."""
        return self.driver_name == "NVIDIA"

    def to_text(self) -> str:
        """Return the record as JSON, keys in the order of the fields and sets sorted."""
        plain = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(self).items()}
        for name in ("matrices", "matrices_nv"):
            plain[name] = [list(row.values()) for row in plain[name]]
        lines = [f"  {json.dumps(name)}: {_value_text(value)}" for name, value in plain.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_text(cls, text: str) -> Capabilities:
        """Return the record that `to_text` wrote.

        Raises:
            ShaderError: a field is unknown or missing.
        """
        plain: dict[str, Any] = json.loads(text)
        known = {field.name: field for field in fields(cls)}
        unknown, missing = sorted(plain.keys() - known.keys()), sorted(known.keys() - plain.keys())
        if unknown or missing:
            raise ShaderError(
                "A capabilities file must have exactly the fields of the record.",
                got=f"unknown: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}",
                want=", ".join(known),
                fix="write the file again with Capabilities.to_text.",
            )
        for name in ("subgroup_operations", "features_nv", "float_controls"):
            plain[name] = frozenset(plain[name])
        plain["max_groups"] = tuple(plain["max_groups"])
        plain["matrices"] = tuple(MatrixShape(*row) for row in plain["matrices"])
        plain["matrices_nv"] = tuple(FlexibleMatrix(*row) for row in plain["matrices_nv"])
        return cls(**plain)


def _value_text(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(f"    {json.dumps(row)}" for row in value) + "\n  ]"
    return json.dumps(value)
