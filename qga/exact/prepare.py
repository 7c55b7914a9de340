"""What attention is asked for, checked and in the one form that the rest of the code knows."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Array

from .checks import Call
from .family import Member, member_of
from .grouped import Options
from .observe import observe_grouped
from .pairs import dropout_factor


class Prepared(NamedTuple):
    """A call that was checked.

    Attributes:
        call: its arrays as they were given.
        member: how its scores are computed, with an axis of batch entries.
        values: likewise.
        options: everything else.
    """

    call: Call
    member: Member
    values: Array
    options: Options


def prepare(
    name: str, query: Array, key: Array, value: Array, *, bias: Any = None, mask: Any = None, scale: Any = None,
    is_causal: bool = False, window: Any = None, softcap: Any = None, alibi: Any = None, segment_ids: Any = None,
    query_lengths: Any = None, key_lengths: Any = None, query_offset: Any = None, score_mod: Any = None,
    mask_mod: Any = None, metric: Any = "dot", curvature: float = -1.0, dropout_rate: float = 0.0,
    dropout_key: Any = None, tile: int, derivatives: Any, **unseen: Any,
) -> Prepared:  # fmt: skip
    """Check the arguments of ``qga.attention`` for a function of this name, and tell who watches of the call.

    What the caller does itself comes as ``unseen``, for who watches.

    Raises:
        ShapeError: shapes or dtypes do not fit together.
        OptionError: an option is out of range.
    """
    call = Call(name, query, key, value)
    call.check()
    query, key, value = (each if call.has_batch else each[None] for each in (query, key, value))
    extras = {
        "bias": bias, "mask": mask, "window": window, "softcap": softcap, "alibi": alibi, "segment_ids": segment_ids,
        "query_lengths": query_lengths, "key_lengths": key_lengths, "query_offset": query_offset,
        "score_mod": score_mod, "mask_mod": mask_mod, "dropout_rate": dropout_rate or None, **unseen,
    }  # fmt: skip
    call.metric(metric, curvature)
    scale = call.scale(scale, metric)
    observe_grouped(query, key, value, extras, metric=metric, scale=scale, is_causal=is_causal)
    options = Options(
        is_causal, call.window(window), call.by_batch("query_offset", query_offset),
        call.by_batch("query_lengths", query_lengths), call.by_batch("key_lengths", key_lengths),
        call.segments(segment_ids), call.softcap(softcap), call.bias(bias), call.mask(mask),
        call.by_head("alibi", alibi), score_mod, mask_mod, _dropout(call, dropout_rate, dropout_key),
        call.tile(tile), call.derivatives(derivatives),
    )  # fmt: skip
    return Prepared(call, member_of(metric, query, key, scale, curvature), value, options)


def _dropout(call: Call, rate: float, key: Any) -> Any:
    call.dropout(rate, key)
    return dropout_factor(rate, key, (call.batch, call.heads, call.queries), call.keys) if rate else None
