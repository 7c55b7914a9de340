"""From counts and times to rates, fractions of the roof, ratios and kept promises; pure functions over a record."""

from __future__ import annotations

import math
from typing import Any

from .cases import MATRIX, Case
from .roof import known_matrix_rate

Record = dict[str, Any]
# The promises, as the issue of the project that made them says them.
BANDWIDTH_RATIO, CALL_US, COLD_S, CACHED_S, PLAN_RATIO, STEP_RATIO = 0.9, 45.0, 15.0, 2.0, 1.1, 0.8
TFLOPS = {"matmul_f16": 300.0, "matmul_bf16": 300.0, "matmul_f32": 30.0}
# Programs whose arena is smaller say nothing about the plan: blocks start at multiples of 256 bytes.
LEAST_ARENA_BYTES = 1 << 16


def device_us(answer: Record) -> float:
    """Return the device's own time of a case, the host's where the device has no clock."""
    return (answer.get("device") or answer["wall"])["median_us"]


def derive(record: Record, cases: dict[str, Case]) -> None:
    """Add rates, fractions and ratios to every timed case, and the roofs they refer to."""
    results = record["cases"]
    roofs = record["roofs"] = roofs_of(record, cases)
    for name, answer in results.items():
        if answer.get("status") != "ok" or name not in cases:
            continue
        us, case = device_us(answer), cases[name]
        answer["gb_per_s"] = answer["bytes"] / us / 1e3
        if case.operations:
            answer["tflop_per_s"] = case.operations / us / 1e6
        ideal = ideal_us(case, answer["bytes"], roofs)
        answer["of_roof"] = ideal / us if ideal else None
        answer["ratio"] = ratio_of(answer)
    for name in ("train", "train_bf16", "dispatch"):
        if results.get(name, {}).get("status") == "ok":
            results[name]["ratio"] = _ratio_of_job(name, results[name])


def ratio_of(answer: Record) -> float | None:
    """Return the peer's time over ours, both by the host's clock in the same way; above 1 we are faster."""
    peer = answer.get("peer", {})
    return peer["wall"]["median_us"] / answer["wall"]["median_us"] if peer.get("status") == "ok" else None


def _ratio_of_job(name: str, answer: Record) -> float | None:
    if name != "dispatch":
        return ratio_of(answer)
    if answer.get("peer", {}).get("status") != "ok":
        return None
    return answer["peer"]["jit"]["independent"]["median_us"] / answer["jit"]["independent"]["median_us"]


def roofs_of(record: Record, cases: dict[str, Case]) -> Record:
    """Return GB/s of this run's copy, and TFLOP/s by dtype: the best known on this device or by this run's peer.

    A rate of our own is no roof: without a known one and without a peer on the device there is none.
    """
    name, copied = record["device"]["name"], record["cases"].get("roof", {})
    rates = {}
    for dtype in ("f16", "bf16", "f32"):
        known = known_matrix_rate(name, "f16" if dtype == "bf16" else dtype)
        found = [_peer_rate(record["cases"].get(name, {}), case) for name, case in cases.items() if _takes(case, dtype)]
        rates[dtype] = max((rate for rate in (known, *found) if rate), default=None)
    return {"copy_gb_per_s": copied.get("gb_per_s"), "matrix_tflop_per_s": rates}


def _takes(case: Case, dtype: str) -> bool:
    return bool(case.operations) and case.inputs[0][0] == dtype


def _peer_rate(answer: Record, case: Case) -> float | None:
    """Return TFLOP/s of the peer; one on the host's processor says nothing about the device."""
    peer = answer.get("peer", {})
    if peer.get("status") != "ok" or peer.get("platform") == "cpu":
        return None
    return case.operations / peer["wall"]["median_us"] / 1e6


def ideal_us(case: Case, nbytes: int, roofs: Record) -> float | None:
    """Return the least time of a case: the longer of moving its bytes and computing its operations at the roofs."""
    bandwidth = roofs["copy_gb_per_s"]
    rate = roofs["matrix_tflop_per_s"].get(case.inputs[0][0])
    if not bandwidth or (case.group == MATRIX and not rate):
        return None
    computing = case.operations / rate / 1e6 if case.group == MATRIX else 0.0
    return max(nbytes / bandwidth / 1e3, computing)


def promises(record: Record, cases: dict[str, Case]) -> list[Record]:
    """List what was promised and this run can judge, what was found, and whether it holds.

    Speeds and times are promised of the full sizes only.
    """
    results = record["cases"]
    fine = {name: answer for name, answer in results.items() if answer.get("status") == "ok"}
    rows = [] if record["quick"] else [*_speeds(record, fine), *_compile_times(fine)]
    worst = max(_plan_ratios(results), default=None)
    if worst is not None:
        rows.append(_row("arena over its bound, worst program", worst, at_most=PLAN_RATIO))
    checked = [answer for answer in results.values() if answer.get("status") in ("ok", "wrong")]
    wrong = sum(answer["status"] == "wrong" for answer in checked)
    return [*rows, _row(f"wrong results among {len(checked)} checked", wrong, at_most=0)]


def _speeds(record: Record, fine: Record) -> list[Record]:
    """Judge what is promised of GPUs."""
    if record["device"]["type"] == "cpu":
        return []
    rows = []
    if record.get("peer", {}).get("platform") not in (None, "cpu"):
        named = [
            name for name in fine if name.startswith(("chain", "softmax", "layer_norm")) and fine[name].get("ratio")
        ]
        rows += [_row(f"{name}: rate over the peer's", fine[name]["ratio"], at_least=BANDWIDTH_RATIO) for name in named]
    for name, least in TFLOPS.items():
        if name in fine:
            rows.append(_row(f"{name}: TFLOP/s", fine[name]["tflop_per_s"], at_least=least))
    if fine.get("train_bf16", {}).get("ratio"):
        rows.append(_row("train_bf16: rate over the peer's", fine["train_bf16"]["ratio"], at_least=STEP_RATIO))
    if "dispatch" in fine:
        rows.append(_row("jitted call, µs", fine["dispatch"]["jit"]["independent"]["median_us"], at_most=CALL_US))
    return rows


def _compile_times(fine: Record) -> list[Record]:
    answer = fine.get("compile")
    if answer is None:
        return []
    return [
        _row("cold compile, s", answer["cold"]["compile_s"], at_most=COLD_S),
        _row("compile from the cache, s", answer["cached"]["compile_s"], at_most=CACHED_S),
    ]


def _plan_ratios(results: Record) -> list[float]:
    plans = [answer.get("plan") or answer.get("cold", {}).get("plan") for answer in results.values()]
    return [
        plan["arena_bytes"] / max(plan["liveness_bound_bytes"], 1)
        for plan in plans
        if plan and plan["arena_bytes"] >= LEAST_ARENA_BYTES
    ]


def _row(what: str, found: float, *, at_least: float = -math.inf, at_most: float = math.inf) -> Record:
    want = f">= {at_least:g}" if at_least > -math.inf else f"<= {at_most:g}"
    return {"what": what, "found": found, "want": want, "is_kept": at_least <= found <= at_most}
