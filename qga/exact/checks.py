"""Whether the arguments of attention fit together, and their one form that the rest of the code knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import jax.numpy as jnp
from jaxtyping import Array

from ..errors import OptionError, ShapeError, describe, refuse
from ..kernels.problem import Derivatives
from ..tiling.state import accumulator_dtype
from .metrics import Metric

_RAYS = ("fidelity", "born")
# A window that reaches farther than this sees as much, and its ends are places of 32 bits.
_FAR = 2**30


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an attention function, by its arrays.

    Attributes:
        name: of the function.
        query: [*batch, queries, heads, width], with no batch axis or one.
        key: likewise.
        value: likewise.
    """

    name: str
    query: Array
    key: Array
    value: Array

    @property
    def has_batch(self) -> bool:
        """Whether there is an axis of batch entries."""
        return self.query.ndim == 4

    @property
    def batch(self) -> int:
        """How many batch entries there are."""
        return self.query.shape[0] if self.has_batch else 1

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return self.query.shape[-3]

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return self.key.shape[-3]

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return self.query.shape[-2]

    def check(self) -> None:
        """Refuse arrays that do not fit together."""
        arrays = self.query, self.key, self.value
        got = f"query {describe(self.query)}, key {describe(self.key)}, value {describe(self.value)}"
        ranks = {each.ndim for each in arrays}
        fits = ranks in ({3}, {4}) and self.key.shape[:-1] == self.value.shape[:-1]
        fits = fits and self.query.shape[-1] == self.key.shape[-1] and self.query.shape[:-3] == self.key.shape[:-3]
        if not fits or self.key.shape[-2] == 0 or self.heads % self.key.shape[-2]:
            self._refuse(
                ShapeError, "query, key and value must fit together.", got,
                "[batch, queries, heads, width], [batch, keys, key_heads, width], [batch, keys, key_heads, channels] "
                "with key_heads a divisor of heads",
                "move the axis of heads behind the rows; more axes of a batch are mapped with jax.vmap.",
            )  # fmt: skip
        dtypes = {each.dtype for each in arrays}
        if len(dtypes) > 1 or not jnp.issubdtype(self.query.dtype, jnp.floating):
            self._refuse(
                ShapeError, "query, key and value must have one real floating dtype.", got,
                "one of float16, bfloat16, float32, float64 for all three", "convert with .astype.",
            )  # fmt: skip

    def scale(self, scale: Any, metric: str) -> float | Array:
        """Return the inverse temperature as a number, or as [batch or 1, heads or 1]."""
        if scale is None:
            return 1 / math.sqrt(max(self.query.shape[-1], 1)) if metric == "dot" else 1.0
        if isinstance(scale, int | float):
            return float(scale)
        array = jnp.asarray(scale, accumulator_dtype(self.query))
        array = array.reshape((1,) * (2 - array.ndim) + array.shape)
        if array.ndim != 2 or array.shape[0] not in (1, self.batch) or array.shape[1] not in (1, self.heads):
            self._refuse(
                ShapeError, "scale is a number, or one for each head.", describe(scale),
                f"a number, [{self.heads}] or [{self.batch}, {self.heads}]", "drop the other axes.",
            )  # fmt: skip
        return array

    def bias(self, bias: Any) -> Array | None:
        """Return a bias as four axes."""
        if bias is None:
            return None
        if not jnp.issubdtype(bias.dtype, jnp.floating):
            self._refuse(
                ShapeError, "a bias is added to scores.", f"bias {describe(bias)}", "real floating numbers",
                "pass what says yes or no as mask.",
            )  # fmt: skip
        return self._table("bias", jnp.asarray(bias))

    def mask(self, mask: Any) -> Array | None:
        """Return a mask as four axes."""
        if mask is None:
            return None
        if mask.dtype != jnp.bool_:
            self._refuse(
                ShapeError, "a mask says True where a query may see a key.", f"mask {describe(mask)}", "a bool mask",
                "compare first, such as mask > 0, or pass what is added to scores as bias.",
            )  # fmt: skip
        return self._table("mask", jnp.asarray(mask))

    def _table(self, role: str, table: Array) -> Array:
        shape = (1,) * (4 - table.ndim) + table.shape
        most = self.batch, self.heads, self.queries, self.keys
        if len(shape) != 4 or any(size not in (1, full) for size, full in zip(shape, most, strict=True)):
            self._refuse(
                ShapeError, f"{role} has axes for batch, heads, queries and keys.", f"{role} {describe(table)}",
                f"{list(most)}, or 1 in the place of any of them", "add axes of length 1 with jnp.expand_dims.",
            )  # fmt: skip
        return table.reshape(shape)

    def by_batch(self, role: str, numbers: Any) -> Array | None:
        """Return integers of batch entries."""
        if numbers is None:
            return None
        array = jnp.asarray(numbers)
        fits = jnp.issubdtype(array.dtype, jnp.integer) and array.shape in ((), (1,), (self.batch,))
        if not fits:
            self._refuse(
                ShapeError, f"{role} has an integer for each batch entry.", f"{role} {describe(array)}",
                f"integers [{self.batch}]", "pass one number, or one for each batch entry.",
            )  # fmt: skip
        return jnp.broadcast_to(array.astype(jnp.int32), (self.batch,))

    def by_head(self, role: str, numbers: Any) -> Any:
        """Return numbers of heads."""
        if numbers is None:
            return None
        array = jnp.asarray(numbers)
        if array.shape not in ((), (self.heads,)) or not jnp.issubdtype(array.dtype, jnp.floating):
            self._refuse(
                ShapeError, f"{role} has a number for each head.", f"{role} {describe(array)}",
                f"real numbers [{self.heads}]", "pass one number, or one for each query head.",
            )  # fmt: skip
        return jnp.broadcast_to(array, (self.heads,))

    def segments(self, segments: Any) -> tuple[Array, Array] | None:
        """Return the segments of queries and of keys."""
        if segments is None:
            return None
        pair = segments if isinstance(segments, tuple) else (segments, segments)
        found = []
        for role, array, rows in zip(("queries", "keys"), pair, (self.queries, self.keys), strict=True):
            array = jnp.asarray(array)
            shape = array.shape if array.ndim == 2 else (1, *array.shape)
            if not jnp.issubdtype(array.dtype, jnp.integer) or shape not in ((1, rows), (self.batch, rows)):
                self._refuse(
                    ShapeError, f"segment_ids has an integer for each of the {role}.", describe(array),
                    f"integers [{self.batch}, {rows}]", "pass (ids of queries, ids of keys) where they differ.",
                )  # fmt: skip
            found.append(jnp.broadcast_to(array.reshape(shape).astype(jnp.int32), (self.batch, rows)))
        return found[0], found[1]

    def window(self, window: Any) -> tuple[int | None, int | None]:
        """Return how many keys before and after its place a query sees."""
        pair = window if isinstance(window, tuple) else (window, window)
        if len(pair) != 2 or any(each is not None and (not isinstance(each, int) or each < 0) for each in pair):
            self._refuse(
                OptionError, "a window counts keys before and after a query.", f"window={window!r}",
                "a number from 0 on, or a pair of them, None for all", "use mask_mod for any other rule.",
            )  # fmt: skip
        back, ahead = (None if each is None else min(each, _FAR) for each in pair)
        return back, ahead

    def softcap(self, cap: Any) -> float | None:
        """Return the cap of scores."""
        if cap is not None and not (isinstance(cap, int | float) and cap > 0):
            self._refuse(
                OptionError, "a soft cap is a number above zero.", f"softcap={cap!r}", "softcap > 0",
                "leave it out for none; write a traced cap as score_mod.",
            )  # fmt: skip
        return None if cap is None else float(cap)

    def tile(self, tile: int) -> int:
        """Return the keys of a tile."""
        if tile < 1:
            self._refuse(OptionError, "a tile has at least one key.", f"tile={tile}", "tile >= 1", "raise tile.")
        return tile

    def derivatives(self, word: Any) -> Derivatives:
        """Return the kind of derivatives."""
        if word not in get_args(Derivatives):
            self._refuse(
                OptionError, "derivatives must be a word that is known.", repr(word),
                " or ".join(map(repr, get_args(Derivatives))), "leave it out for gradients.",
            )  # fmt: skip
        return word

    def metric(self, metric: str, curvature: float) -> None:
        """Check a geometry."""
        if metric not in get_args(Metric) or not curvature < 0:
            self._refuse(
                OptionError, "a metric is a geometry that is known, of negative curvature where it has one.",
                f"metric={metric!r}, curvature={curvature}", f"one of {', '.join(get_args(Metric))}, curvature < 0",
                "metric='gauss' is the limit of curvature zero.",
            )  # fmt: skip
        if metric in _RAYS and self.query.shape[-1] % 2:
            self._refuse(
                ShapeError, "real and imaginary parts need an even width.", f"query {describe(self.query)}",
                "a last axis of even length", "put real parts in the first half of a row, imaginary ones behind.",
            )  # fmt: skip

    def dropout(self, rate: float, key: Any) -> None:
        """Check the rate and the key of a dropout."""
        if not 0 <= rate < 1 or (rate and key is None):
            self._refuse(
                OptionError, "dropout has a rate from 0 to below 1, and a key.",
                f"dropout_rate={rate!r}, dropout_key={'None' if key is None else 'given'}",
                "0 <= dropout_rate < 1, and a dropout_key where it is above zero", "pass jax.random.key(...).",
            )  # fmt: skip

    def _refuse(self, kind: type, rule: str, got: str, want: str, fix: str) -> None:
        refuse(kind, f"{self.name}: {rule}", got=got, want=want, fix=fix)
