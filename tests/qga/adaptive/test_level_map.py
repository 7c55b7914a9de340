"""Maps of levels: each row counts what the certificate of its queries counts, and says what was really read."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import attention
from qga.adaptive import attend_and_map
from qga.tiling import LEVEL_NAMES, Audit, Budget, Certificate, Certified, Fixed, level_shares
from tests.qga.adaptive.test_adaptive import SLOPES, draw

COUNTS = {
    "hidden": "tiles_hidden",
    "left out": "tiles_skipped",
    "coarse": "tiles_coarse",
    "half": "tiles_half",
    "split": "tiles_split",
    "exact": "tiles_exact",
}
Map = np.ndarray[Any, Any]


def attend(resolution: Any, **options: Any) -> tuple[Any, Certificate, Map, int]:
    # Rows of very different lengths, so that products of fewer bits do for some tiles only.
    query, key, value = draw()
    key = key * np.exp(2 * np.sin(np.arange(key.shape[1], dtype=np.float32) / 40))[None, :, None, None]
    out, certificate, found = jax.jit(partial(attend_and_map, resolution=resolution, **options))(query, key, value)
    return out, certificate, np.array(found.levels), int(found.tile)


def counts_agree(certificate: Certificate, levels: Map, tile: int) -> bool:
    rows = np.repeat(levels, tile, axis=2)[:, :, : certificate.kl.shape[1]]
    by_query = {name: np.moveaxis(np.sum(rows == number, axis=3), 1, 2) for number, name in enumerate(LEVEL_NAMES)}
    return all(np.array_equal(by_query[name], getattr(certificate, field)) for name, field in COUNTS.items())


@pytest.mark.parametrize(
    "resolution",
    [Certified(1e-2), pytest.param(Certified(3e-2, products="half"), marks=pytest.mark.exhaustive), Fixed()],
    ids=repr,
)
def test_a_map_counts_what_certificates_count(resolution: Any) -> None:
    _, certificate, levels, tile = attend(resolution, alibi=SLOPES, is_causal=True)
    assert counts_agree(certificate, levels, tile)
    # The tile of a query is never left out.
    levels[0, 0, 1, 1] = LEVEL_NAMES.index("left out")
    assert not counts_agree(certificate, levels, tile)


def test_levels_of_products_differ_by_tile() -> None:
    _, _, levels, _ = attend(Certified(3e-2, products="half"), alibi=np.array([2, 0.05], np.float32), is_causal=True)
    assert {LEVEL_NAMES[number] for number in np.unique(levels)} == {"hidden", "left out", "half", "split"}


def test_a_head_that_failed_its_audit_is_exact_in_its_map() -> None:
    audit = Audit(rows=100, tolerance=1e-3, share=0.05)
    options = {"alibi": np.array([2, 0], np.float32), "is_causal": True, "audit": audit, "audit_key": jax.random.key(0)}
    _, certificate, levels, tile = attend(Budget(tiles=1), **options)
    assert certificate.audit is not None
    assert certificate.audit.is_again[0].tolist() == [False, True]
    assert counts_agree(certificate, levels, tile)
    assert "left out" not in {LEVEL_NAMES[number] for number in np.unique(levels[0, 1])}


def is_attention_over(levels: Map, out: Any, tile: int) -> bool:
    """Tell whether averages are those over the tiles that a map says were read."""
    read = np.repeat(np.repeat(levels >= LEVEL_NAMES.index("half"), tile, axis=2), tile, axis=3)
    rows = draw()
    mask = jnp.asarray(read[:, :, : rows[0].shape[1], : rows[1].shape[1]])
    wanted = attention(*rows, mask=mask, alibi=SLOPES, is_causal=True)
    return bool(np.max(np.abs(wanted - out)) < 1e-5)


def test_a_map_says_which_tiles_were_read() -> None:
    out, _, found = attend_and_map(*draw(), resolution=Budget(tiles=2), alibi=SLOPES, is_causal=True)
    levels = np.array(found.levels)
    assert is_attention_over(levels, out, int(found.tile))
    levels[0, 1, -1, 3] = LEVEL_NAMES.index("exact")
    assert not is_attention_over(levels, out, int(found.tile))


def test_a_call_without_batch_has_a_map_without_batch() -> None:
    query, key, value = (rows[0] for rows in draw(128, 64))
    _, certificate, found = attend_and_map(query, key, value, resolution=Fixed())
    assert found.levels.shape == (2, 2, 1)
    assert certificate.kl.shape == (128, 2)


def test_shares_are_of_what_can_be_seen() -> None:
    levels = np.array([[6, 0, 0], [1, 6, 0], [1, 3, 6]])
    shares = level_shares(levels)
    assert {name: round(float(share), 3) for name, share in shares.items() if share} == {
        "hidden": 0.333, "left out": 0.333, "half": 0.167, "exact": 0.5,
    }  # fmt: skip
    assert sum(float(share) for name, share in shares.items() if name != "hidden") == 1.0
