"""The two backends: the same calls of the same pure functions, on the CPU or through Vulkan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import numpy as np
from jax.typing import DTypeLike

from ..arithmetic import ArithmeticReport, analyze
from ..errors import DomainError, OptionError, refuse
from ..exact import attention
from ..flow import order_for, pattern_flow
from ..motivic import apply
from ..routing import stationary as find_stationary
from ..tiling import split
from .devices import Device, find_device, first_device
from .limits import limits_of
from .memory import Memory
from .prepared import PreparedAttention, frozen, run, split_options
from .tensors import T, Tensor, framework_of, give, put
from .tiles import Tiling, fit_tile, fit_tile_or_part, tiling_of

if TYPE_CHECKING:
    from .protocols import AttentionBackend, QuantumGeometricCore, TensorMemoryManager, TilingStrategy

# Arguments of ``qga.attention`` that have a place of their own here.
_PLACED = ("query", "key", "value", "mask", "tile", "return_lse")


class Backend(Memory):
    """Runs the pure functions on one device of JAX, for tensors of any framework; owns what it allocates there.

    Args:
        device: of the backend's platform; the first one by default.

    Attributes:
        device: where everything runs.
        limits: what the device offers to a tile.

    Raises:
        OptionError: there is no such device, or it is of another platform.
    """

    platform: ClassVar[str]

    def __init__(self, device: Device | None = None) -> None:
        super().__init__(first_device(self.platform) if device is None else device)
        if self.device.platform != self.platform:
            refuse(
                OptionError, f"{type(self).__name__}: the device must be of platform {self.platform}.",
                got=repr(self.device), want=f"one of jax.devices({self.platform!r})",
                fix="leave the choice to qga.backends.choose(device).",
            )  # fmt: skip
        self.limits = limits_of(self.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.device})"

    def prepare_attention(
        self, query: T, key: Tensor, value: Tensor, *, tile: int | None = None, **options: Any
    ) -> PreparedAttention[T]:
        """Check a call of ``qga.attention`` and put its arrays on the device.

        Args:
            query: [batch, queries, heads, width], or without batch.
            key: [batch, keys, key_heads, width].
            value: [batch, keys, key_heads, channels].
            tile: keys scored at a time, at most; what ``optimize_tiling`` finds by default.
            options: those of ``qga.attention`` but for ``mask``, which comes with ``compute_attention``, and
                ``return_lse``. Arrays may be of any framework; all else is compiled in.

        Returns:
            What ``compute_attention`` takes, as often as wanted, of this backend or of another.

        Raises:
            ShapeError: shapes or dtypes do not fit together.
            OptionError: an option is out of range, or a tensor cannot cross.
        """
        taken = [name for name in _PLACED if name in options]
        if taken:
            refuse(
                OptionError, "prepare_attention: every argument has one place.", got=", ".join(taken),
                want="options that are neither arrays of the call nor decide what it returns",
                fix="pass the mask to compute_attention; for log sums call qga.attention.",
            )  # fmt: skip
        tensors = tuple(put(each, self.device) for each in (query, key, value))
        arrays, settings = split_options(options, self.device)
        tile = self._default_tile(*tensors[1:]) if tile is None else tile
        prepared = PreparedAttention(tensors, arrays, settings, tile, framework_of(query))
        # Traced now, so that what does not fit is refused here; the trace is kept for the computation.
        run.eval_shape(attention, *self._arguments(prepared, None))
        return prepared

    def compute_attention(self, prepared: PreparedAttention[T], mask: Tensor | None = None) -> T:
        """Compute attention that was prepared, on this device.

        Args:
            prepared: of any backend; arrays that are elsewhere come here first.
            mask: True where a query may see a key, as in ``qga.attention``; of any framework.

        Returns:
            [batch, queries, heads, channels], as an array of the framework that the query came from.

        Raises:
            ShapeError: the mask does not fit.

        Error: that of ``qga.attention``; two backends differ by no more than twice that.
        """
        return give(run(attention, *self._arguments(prepared, mask)), prepared.framework)

    def optimize_tiling(
        self, keys: int, *, width: int, channels: int | None = None, dtype: DTypeLike = "float32"
    ) -> Tiling:
        """Cut keys into the longest tiles that the device's fast memory holds.

        On the CPU that is half the second-level cache of a core, on Vulkan the shared memory of a workgroup.

        Args:
            keys: how many there are.
            width: of a key.
            channels: of a value; as many as ``width`` by default.
            dtype: of both.

        Raises:
            OptionError: a size is out of range, or not even one key and value fit.
        """
        return tiling_of(self.limits, keys, width, width if channels is None else channels, dtype)

    def compute_optimal_tile_size(
        self, keys: int, *, width: int, channels: int | None = None, dtype: DTypeLike = "float32"
    ) -> int:
        """Find the longest tile of keys and values that fits: ``optimize_tiling`` without the reasons.

        Args:
            keys: how many there are.
            width: of a key.
            channels: of a value; as many as ``width`` by default.
            dtype: of both.

        Raises:
            OptionError: as ``optimize_tiling`` does.
        """
        return fit_tile(self.limits, keys, width, width if channels is None else channels, dtype)

    def split_into_tiles(self, tensor: T, tile: int) -> tuple[T, T]:
        """Cut the leading axis into tiles: ``qga.tiling.split``.

        Args:
            tensor: with at least one axis.
            tile: rows of a tile.

        Returns:
            [tiles, tile, ...], the last tile padded with zeros, and [tiles, tile]: True where a row exists.

        Raises:
            OptionError: ``tile`` is below 1.
            ShapeError: there is no axis.
        """
        return self._run(split, tensor, settings={"tile": tile})

    def compute_pattern_flow(
        self, field: T, time: float | Tensor, *, queries: Tensor | None = None, keys: Tensor | None = None,
        order: int | None = None, **options: Any,
    ) -> tuple[T, T]:  # fmt: skip
        """Let a field flow along the attention of its places: ``qga.pattern_flow``.

        Args:
            field: [rows, channels], what flows.
            time: one number, at least 0.
            queries: [rows, width]; the field by default.
            keys: [rows, width]; the field by default.
            order: how many passes; by default as ``qga.flow.order_for`` says, for a cut-off of a millionth.
            options: those of ``qga.pattern_flow``.

        Returns:
            The field at that time, and the bound of what was cut off.

        Raises:
            DomainError: ``time`` is negative, or above 700 without an order.
            OptionError: an option is out of range, or a tensor cannot cross.
            ShapeError: shapes do not fit together.
        """
        moment = float(time)  # pyright: ignore[reportArgumentType]
        if not moment >= 0:
            refuse(
                DomainError, "compute_pattern_flow: a flow runs forwards.", got=f"time={moment}", want="time >= 0",
                fix="use a time of zero or more; heat flow has no inverse.",
            )  # fmt: skip
        flowing = put(field, self.device)
        asking = (flowing if each is None else put(each, self.device) for each in (queries, keys))
        arrays, settings = split_options(options, self.device)
        settings["order"] = order_for(moment) if order is None else order
        # An array, not a setting: another time is the same program.
        tensors = (*asking, flowing, put(np.asarray(moment, flowing.dtype), self.device))
        return give(run(pattern_flow, tensors, arrays, frozen(settings)), framework_of(field))

    def analyze_arithmetic_dynamics(self, weights: Tensor, stationary: Tensor | None = None) -> ArithmeticReport:
        """Report the arithmetic of an attention operator: ``qga.arithmetic.analyze``.

        Every backend runs it on the CPU, which has eigenvalue solvers; the report is where the backend is.

        Args:
            weights: [rows, rows], row-stochastic.
            stationary: [rows], kept by the weights; ``qga.routing.stationary`` finds it by default.

        Returns:
            The report, its entries arrays of the framework that the weights came from.

        Raises:
            ShapeError: the operator is not square, has less than two rows, or the law is not one number a row.
        """
        host = first_device("cpu")
        law = None if stationary is None else put(stationary, host)
        report = run(_analyze, (put(weights, host), law), {}, ())
        return give(jax.device_put(report, self.device), framework_of(weights))

    def apply_motivic_structure(self, signal: T, gains: Tensor) -> T:
        """Scale each graded piece of a signal: ``qga.motivic.apply``.

        Args:
            signal: [rows, ...], a power of two of rows.
            gains: [levels], log2(rows) + 1 factors, coarsest first.

        Raises:
            ShapeError: the rows are no power of two, or the gains are not one for each level.
        """
        return self._run(apply, signal, gains)

    def _run(self, function: Any, first: Tensor, *others: Tensor, settings: dict[str, Any] | None = None) -> Any:
        tensors = [put(each, self.device) for each in (first, *others)]
        return give(run(function, tensors, {}, frozen(settings or {})), framework_of(first))

    def _arguments(self, prepared: PreparedAttention, mask: Tensor | None) -> tuple[Any, Any, Any]:
        tensors, options = jax.device_put((prepared.tensors, dict(prepared.options)), self.device)
        if mask is not None:
            options["mask"] = put(mask, self.device)
        return tensors, options, frozen({**prepared.settings, "tile": prepared.tile})

    def _default_tile(self, key: jax.Array, value: jax.Array) -> int:
        keys = key.shape[-3] if key.ndim > 2 else 1
        width, channels = (max(1, *each.shape[-1:]) for each in (key, value))
        return fit_tile_or_part(self.limits, max(1, keys), width, channels, key.dtype)


def _analyze(weights: jax.Array, law: jax.Array | None) -> ArithmeticReport:
    return analyze(weights, find_stationary(weights).law if law is None else law)


class CPUBackend(Backend):
    """Runs on the CPU: XLA compiles the pure functions, a loop of JAX walks the grid of a kernel."""

    platform = "cpu"


class VulkanBackend(Backend):
    """Runs through Vulkan: the platform ``vulkan`` compiles the pure functions to SPIR-V."""

    platform = "vulkan"


if TYPE_CHECKING:
    # Here the type checker sees that a backend has all four protocols.
    _PROTOCOLS: tuple[
        type[AttentionBackend], type[TensorMemoryManager], type[TilingStrategy], type[QuantumGeometricCore]
    ] = (Backend, Backend, Backend, Backend)

_BACKENDS: dict[str, type[Backend]] = {each.platform: each for each in (CPUBackend, VulkanBackend)}


def choose(where: Literal["auto", "cpu", "vulkan"] | Device = "auto") -> Backend:
    """Make a backend by the name of its platform, or for a device.

    Args:
        where: a name, a device of JAX, or ``auto``: Vulkan where it drives hardware, else the CPU. A driver that is a
            program on the CPU, such as lavapipe, is taken if it is named, or if JAX_PLATFORMS leaves nothing else.

    Raises:
        OptionError: there is no such backend or no such device.

    Example:
        >>> choose("cpu").device.platform
        'cpu'
    """
    if where == "auto":
        return _choose_best()
    platform = where if isinstance(where, str) else getattr(where, "platform", repr(where))
    if platform not in _BACKENDS:
        refuse(
            OptionError, "choose: a backend is a platform that has one.", got=repr(where),
            want=f"auto, {', '.join(_BACKENDS)}, or a device of these platforms",
            fix="call the pure functions of qga directly: they run on every platform of JAX.",
        )  # fmt: skip
    return _BACKENDS[platform](None if isinstance(where, str) else where)


def _choose_best() -> Backend:
    cpu, vulkan = (find_device(platform)[0] for platform in ("cpu", "vulkan"))
    if vulkan is not None and (cpu is None or vulkan.device_type != "cpu"):
        return VulkanBackend(vulkan)
    return CPUBackend(cpu)
