"""What `python -m tests.bench.attention` and `costs` compare with and print, without timing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .attention import truth
from .costs import costs, page


@pytest.mark.parametrize("is_causal", [False, True])
def test_truth_and_its_derivatives_are_those_of_dense_attention(is_causal: bool) -> None:
    queries, keys, values = np.random.default_rng(3).normal(size=(3, 7, 4))

    def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        scores = queries @ keys.T / 2.0
        visible = jnp.tri(*scores.shape, dtype=bool) | (not is_causal)
        return jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=1) @ values

    with jax.enable_x64(True):
        out, pull = jax.vjp(attend, *map(jnp.asarray, (queries, keys, values)))
        want = [out, *pull(out)]
    found = truth(queries, keys, values, is_causal=is_causal)
    for one, other in zip(found, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert np.abs(truth(queries, keys, values, is_causal=not is_causal)[0] - found[0]).max() > 1e-3


def test_page_has_a_row_for_each_function_and_device() -> None:
    def record(kind: str, platform: str, flop_per_s: float) -> dict[str, Any]:
        rows = [
            {"name": cost.name, "passes": cost.passes, "operations": cost.operations, "bytes": 8e6, "median_ms": 2.5,
             "spread": 0.0}
            for cost in costs()
        ]  # fmt: skip
        roof = {"flop_per_s": flop_per_s, "bytes_per_s": 1e11}
        return {
            "device": {"kind": kind, "platform": platform},
            "host": {"cores": 2, "load": 0.25},
            "roof": roof,
            "rows": rows,
        }

    text = page({"cpu": record("cpu", "cpu", 1e12), "vulkan": record("a card", "vulkan", 2e12)})
    assert all(f"| `{cost.name}` |" in text for cost in costs())
    # 2 * 4,096^2 * 64 operations at 1 and at 2 TFLOP/s, or 8 MB at 100 GB/s.
    assert "| `operators.attention_operator` | 1 | 2.15 | 8 | 2.5 | 85.9% | 2.5 | 42.9% |" in text
    assert "| `quantum.purity` |  | 1.64e-05 | 8 | 2.5 | 3.2% | 2.5 | 3.2% |" in text
    assert "| a card | 2 | 100 | 0.2 |" in text
    assert "not measured" not in text
    older = record("a card", "vulkan", 2e12)
    older["rows"] = older["rows"][1:]
    text = page({"cpu": record("cpu", "cpu", 1e12), "vulkan": older})
    assert text.count("not measured") == 1
    assert f"| `{costs()[0].name}` | {costs()[0].passes} |" in text
