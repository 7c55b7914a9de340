"""Which kernels are written in bands, why others are not, and what a plan says; no device is needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl

from lowering.codegen import bands, kernels
from lowering.codegen.bands.follow import ALONG, DOWN
from lowering.compiler import choose
from lowering.errors import UnsupportedError
from lowering.pallas import CompilerParams
from lowering.schedule import Schedule
from shaders.capabilities import Capabilities

from .elements import CASES as CASES_OF_ELEMENTS
from .kernels import CASES, F16, F32, chunk, multiply, typed
from .support import THIN, UNIT, bands_of, fusions_of, schedules_of, tile_node, why_unfit

I32 = jnp.int32
ROWS, WIDTH, KEYS = 16, 16, 32
Q, K, SQUARE = typed(F16, 32, WIDTH), typed(F16, KEYS, WIDTH), typed(F16, 16, 16)


def blocked(body: Callable[..., None], *arguments: Any, out: Any = None, **options: Any) -> Callable[..., Any]:
    """Call a kernel for each 16 rows of its first argument and of its result, f32[32, keys] by default."""
    out = typed(F32, 32, KEYS) if out is None else out
    rows = lambda array: pl.BlockSpec((ROWS, *array.shape[1:]), lambda i: (i, *(0 for _ in array.shape[1:])))  # noqa: E731
    whole = lambda array: pl.BlockSpec(array.shape, lambda _: tuple(0 for _ in array.shape))  # noqa: E731
    specs = [rows(arguments[0]), *map(whole, arguments[1:])]
    return pl.pallas_call(
        body, out_shape=out, grid=(2,), in_specs=specs, out_specs=jax.tree.map(rows, out),
        compiler_params=CompilerParams(**options),
    )  # fmt: skip


def refusal(h100: Capabilities, body: Callable[..., None], *arguments: Any, out: Any = None) -> str:
    given = arguments or (Q, K)
    return why_unfit(blocked(body, *given, out=out), *given, capabilities=h100)


def of_scores(function: Callable[[Any], Any]) -> Callable[..., None]:
    """Return a kernel that computes something of all scores of its queries."""

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = function(multiply(a[...], b[...].T))

    return kernel


# -- kernels that do not fit -------------------------------------------------------------------------------------------


COLUMN, ROUND = typed(F32, 32), typed(I32, 32)
OF_SCORES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "a number made of a tile": (lambda s: s.max(1) + s.sum(), COLUMN),
    "an update of a tile": (lambda s: s.at[0:8].set(1.0) * s, None),
    "reverse": (lambda s: s[::-1], None),
    "a branch that reads a tile": (lambda s: lax.cond(pl.program_id(0) == 0, lambda: jnp.exp(s), lambda: s), None),
    "a reshape that mixes axes": (lambda s: s.reshape(16, 8, 4), typed(F32, 32, 8, 4)),
    "complex numbers": (lambda s: jnp.real(lax.complex(s, s) * lax.complex(s, s)), None),
    "a reduction by a rule of its own": (lambda s: jnp.argmax(s, 1).astype(I32), ROUND),
    "a reduction of other numbers than f32": (lambda s: jnp.max(s.astype(F16), 1), typed(F16, 32)),
    "a tile i32[16,32] that matrices cannot hold": (lambda s: s.astype(I32), typed(I32, 32, KEYS)),
}


@pytest.mark.parametrize("reason", OF_SCORES)
def test_what_is_done_with_scores_does_not_fit(reason: str, h100: Capabilities) -> None:
    function, out = OF_SCORES[reason]
    assert refusal(h100, of_scores(function), out=out) == reason
    assert bands_of(blocked(of_scores(jnp.exp), Q, K), Q, K, capabilities=h100).rows == ROWS


def test_kernel_without_a_product_does_not_fit(h100: Capabilities) -> None:
    def kernel(a: Any, _: Any, o: Any) -> None:
        o[...] = jnp.exp(a[...].astype(F32))

    assert refusal(h100, kernel, out=typed(F32, 32, WIDTH)) == "no product"


def test_padded_array_does_not_fit(h100: Capabilities) -> None:
    short = typed(F16, 31, WIDTH)
    reason = refusal(h100, of_scores(jnp.exp), short, K, out=typed(F32, 31, KEYS))
    assert reason == "an array is padded, or too large for 32-bit places"


FACTORS: dict[str, tuple[Callable[[Any, Any], Any], Any, Any, Any]] = {
    "a product of other dtypes": (
        lambda a, b: multiply(a[...], b[...].T), typed(F32, 32, 16), typed(F32, 32, 16), None,
    ),
    "a first factor that is transposed": (lambda a, b: multiply(a[...].T, b[...]), Q, typed(F16, 16, KEYS), None),
    "a second factor that is not read from memory by rows": (
        lambda a, b: multiply(a[...], jnp.exp(b[...]).T), Q, K, None,
    ),
    "a product that the matrix units' sizes do not divide": (
        lambda a, b: multiply(a[...], b[...].T), Q, typed(F16, 24, WIDTH), typed(F32, 32, 24),
    ),
    "a product over several axes": (
        lambda a, b: lax.dot_general(a[...], b[...], (((1, 2), (0, 1)), ((), ())), preferred_element_type=F32),
        typed(F16, 32, 4, 16), typed(F16, 4, 16, KEYS), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", FACTORS)
def test_product_does_not_fit(reason: str, h100: Capabilities) -> None:
    function, left, right, out = FACTORS[reason]

    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = function(a, b)

    assert refusal(h100, kernel, left, right, out=out) == reason


def test_window_that_begins_between_columns_is_no_second_factor(h100: Capabilities) -> None:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = multiply(a[...], b[:, 2:18].T)

    assert refusal(h100, kernel, Q, typed(F16, 32, 20)) == "a second factor that is not read from memory by rows"


def test_axis_cannot_be_both_rows_and_columns(h100: Capabilities) -> None:
    reason = refusal(h100, of_scores(lambda s: s * s.max(0)[None, :]), Q, SQUARE, out=typed(F32, 32, 16))
    assert reason == "an axis that is both down and along"


def test_vector_that_meets_no_product_does_not_fit(h100: Capabilities) -> None:
    def kernel(a: Any, b: Any, c: Any, o: Any, p: Any) -> None:
        o[...] = multiply(a[...], b[...].T)
        p[...] = jnp.exp(c[pl.ds(pl.program_id(0) * ROWS, ROWS)])

    reason = refusal(h100, kernel, Q, K, typed(F32, 32), out=(typed(F32, 32, KEYS), COLUMN))
    assert reason == "nobody says what the axis of f32[16] follows"


def of_heights(*heights: int) -> tuple[Callable[..., Any], list[Any]]:
    """Return a kernel of two products with results of these heights, and its arguments."""

    def kernel(a: Any, b: Any, c: Any, o: Any, p: Any) -> None:
        o[...] = multiply(a[...], c[...].T)
        p[...] = multiply(b[...], c[...].T)

    rows = [pl.BlockSpec((height, WIDTH), lambda i: (i, 0)) for height in heights]
    function = pl.pallas_call(
        kernel,
        out_shape=[typed(F32, 2 * height, KEYS) for height in heights],
        grid=(2,),
        in_specs=[*rows, pl.BlockSpec(K.shape, lambda i: (0, 0))],
        out_specs=[pl.BlockSpec((height, KEYS), lambda i: (i, 0)) for height in heights],
    )
    return function, [*(typed(F16, 2 * height, WIDTH) for height in heights), K]


def test_tiles_of_two_heights_do_not_fit(h100: Capabilities) -> None:
    function, arguments = of_heights(16, 32)
    assert why_unfit(function, *arguments, capabilities=h100) == "tiles of several heights, or of odd widths"


def test_tiles_of_one_height_fit(h100: Capabilities) -> None:
    function, arguments = of_heights(32, 32)
    assert bands_of(function, *arguments, capabilities=h100).rows == 32


def test_part_of_a_tile_does_not_fit(h100: Capabilities) -> None:
    def kernel(a: Any, b: Any, o: Any) -> None:
        low = multiply(b[...], b[...].T)
        o[...] = multiply(a[...], b[...].T) + lax.fori_loop(0, 2, lambda _, x: jnp.exp(x), low)[0:16, :]

    assert refusal(h100, kernel) == "slice"


# -- kernels that fit --------------------------------------------------------------------------------------------------


def test_integers_are_widened_on_their_way_to_a_second_factor_only(h100: Capabilities) -> None:
    integers = typed(jnp.int8, 16, 16)

    def second(a: Any, b: Any, o: Any) -> None:
        o[...] = multiply(a[...], b[...].astype(F16).T)

    def both(a: Any, b: Any, o: Any) -> None:
        rows = b[...].astype(F16)
        o[...] = multiply(rows, rows)

    given, out = (Q, integers), typed(F32, 32, 16)
    (schedule,) = schedules_of(blocked(second, *given, out=out), *given, capabilities=h100)
    assert schedule.mode == bands.BANDS
    assert refusal(h100, both, *given, out=out) == "a second factor that is also read otherwise"


def fusion_of(name: str, capabilities: Capabilities) -> Any:
    case = (CASES | CASES_OF_ELEMENTS)[name]
    (fusion,) = fusions_of(
        functools.partial(case.function, interpret=False), *case.arguments, capabilities=capabilities
    )
    return fusion


@pytest.mark.parametrize("name", CASES)
def test_shared_memory_is_within_the_limit(name: str, h100: Capabilities) -> None:
    fusion = fusion_of(name, h100)
    kernel = kernels.emit_kernel(fusion, choose(fusion, h100), h100, guarded=False)
    assert 0 < kernel.shared_bytes <= h100.max_shared_bytes


def test_exponentials_are_the_driver_s_only_where_the_author_says_so(h100: Capabilities) -> None:
    texts = []
    for name in ("exponentials_of_our_own", "exponentials_of_the_driver"):
        fusion = fusion_of(name, h100)
        texts.append(kernels.emit_kernel(fusion, choose(fusion, h100), h100, guarded=False).text())
    # Of our own is a power of two of what is between 0 and 1, times another that is put together.
    assert [(text.count(" Exp2 "), text.count(" FMin ")) for text in texts] == [(2, 2), (2, 0)]
    # 2^x comes as e^(x log 2); the factor is not put in and taken out again: only e^x is multiplied.
    factors = [line for line in texts[1].splitlines() if "OpFMul" in line and "%f32_" in line]
    assert sum("%f32_1_44" in line for line in factors) == 1
    assert not any("%f32_0_69" in line for line in factors)


@pytest.mark.parametrize("is_straight", [True, False])
def test_slopes_of_distances_cost_an_element_one_product_and_one_sum(is_straight: bool, h100: Capabilities) -> None:
    def body(a: Any, b: Any, n: Any, o: Any) -> None:
        scores = multiply(a[...], b[...].T)
        row, column = (lax.broadcasted_iota(I32, scores.shape, axis).astype(F32) for axis in (0, 1))
        distance = column - row if is_straight else jnp.abs(column - row)
        o[...] = jnp.exp(scores * n[0] + n[1] * distance)

    arguments = Q, K, typed(F32, 2)
    (fusion,) = fusions_of(blocked(body, *arguments, driver_exp=True), *arguments, capabilities=h100)
    text = kernels.emit_kernel(fusion, choose(fusion, h100), h100, guarded=False).text()
    of_element, of_both = operations_of(text, "exponential")
    assert of_element == ["FMul", "FAdd", "Exp2"]
    assert of_both == (["FAdd"] if is_straight else ["FAdd", "FAbs", "FMul"])


def operations_of(text: str, name: str) -> tuple[list[str], list[str]]:
    """Return what a function of elements makes of an element, and of rows and columns together, in a kernel's text."""
    function = text[text.index(f"%{name} = OpFunction") :]
    lines = [line.split() for line in function[: function.index("OpFunctionEnd")].splitlines()[1:]]
    lines = [words for words in lines if len(words) > 2 and words[2] != "OpLabel"]
    parameters = [words[0] for words in lines if words[2] == "OpFunctionParameter"]
    known = dict(zip(parameters, ({"row"}, {"column"}, {"element"}), strict=False))
    found: tuple[list[str], list[str]] = [], []
    for target, _, operation, *operands in lines:
        given: set[str] = set().union(*(known.get(each, set()) for each in operands))
        known.setdefault(target, given)
        named = operands[2] if operation == "OpExtInst" else operation[2:]
        if "element" in given:
            found[0].append(named)
        elif given == {"row", "column"}:
            found[1].append(named)
    return found


def test_axes_follow_rows_and_columns(h100: Capabilities) -> None:
    plan = bands.find_bands(tile_node(fusion_of("column_is_written", h100)), UNIT, THIN)
    made = {step.op: step.outputs[0] for step, _ in plan.cell.walk() if step.op in ("dot_general", "reduce")}
    assert plan.follows[made["dot_general"]] == (DOWN, ALONG)
    assert plan.follows[made["reduce"]] == (DOWN,)
    assert (plan.columns(made["dot_general"]), plan.columns(made["reduce"])) == (KEYS, THIN.n)


def test_second_factors_are_staged_and_first_ones_are_not(h100: Capabilities) -> None:
    plan = bands.find_bands(tile_node(fusion_of("loop_over_chunks_of_keys", h100)), UNIT, THIN)
    products = [step for step, _ in plan.cell.walk() if step.op == "dot_general"]
    assert {step.inputs[1] for step in products} == plan.staged
    assert {step.inputs[0] for step in products} == plan.factors
    assert len(products) == 2
    assert not plan.staged & plan.factors


def test_description_says_where_tiles_live(h100: Capabilities) -> None:
    fusion = fusion_of("column_is_written", h100)
    lines = bands.describe(fusion, choose(fusion, h100))
    assert lines[0] == (
        "tile kernel kernel: 2 workgroups of 1 subgroups, each with a band of 16 rows in matrices of 16x16x16:f16->f32"
    )
    assert "  dot_general: f32[16,32] in 16 x 32 a subgroup" in lines
    assert "  reduce: f32[16] in 16 x 8 a subgroup" in lines
    assert sum("shared memory" in line for line in lines) == 1


def test_description_says_what_passes_through_shared_memory(h100: Capabilities) -> None:
    fusion = fusion_of("loop_over_chunks_of_keys", h100)
    lines = bands.describe(fusion, choose(fusion, h100))
    assert [line for line in lines if "shared memory" in line] == [
        "  dynamic_slice: f16[16,16] through shared memory",
    ]


# -- when they are chosen ----------------------------------------------------------------------------------------------


def mode_of(capabilities: Capabilities, **options: Any) -> str:
    function = blocked(of_scores(jnp.exp), Q, K, **options)
    (schedule,) = schedules_of(function, Q, K, capabilities=capabilities)
    return schedule.mode


def test_gpu_takes_bands_unless_the_author_says_no(h100: Capabilities) -> None:
    assert mode_of(h100) == bands.BANDS
    assert mode_of(h100, bands=False) != bands.BANDS
    assert mode_of(h100, matrix_units=False) != bands.BANDS


def test_cpu_takes_bands_only_if_the_author_asks(cpu: Capabilities) -> None:
    assert mode_of(cpu) != bands.BANDS
    assert mode_of(cpu, bands=True) == bands.BANDS


@pytest.mark.parametrize("feature", ["flexible_dimensions", "reductions", "conversions", "per_element"])
def test_every_feature_is_needed(feature: str, h100: Capabilities) -> None:
    assert mode_of(replace(h100, features_nv=h100.features_nv - {feature}), bands=True) != bands.BANDS


def test_device_without_bands_computes_the_kernel_another_way(lavapipe: Capabilities) -> None:
    assert mode_of(lavapipe, bands=True) != bands.BANDS


def test_shared_memory_bounds_bands(h100: Capabilities) -> None:
    function = functools.partial(CASES["loop_over_chunks_of_keys"].function, interpret=False)
    arguments = CASES["loop_over_chunks_of_keys"].arguments
    modes = [
        schedules_of(function, *arguments, capabilities=replace(h100, max_shared_bytes=size))[0].mode
        for size in (768, 767)
    ]
    assert [mode == bands.BANDS for mode in modes] == [True, False]


def schedule_of(h100: Capabilities, rows: int, **options: Any) -> Schedule:
    def kernel(a: Any, b: Any, o: Any) -> None:
        o[...] = multiply(a[...], chunk(b, 0).T)

    given = typed(F16, rows, WIDTH), K
    spec = [pl.BlockSpec((rows, WIDTH), lambda _: (0, 0)), pl.BlockSpec(K.shape, lambda _: (0, 0))]
    function = pl.pallas_call(
        kernel, out_shape=typed(F32, 2 * rows, 16), grid=(2,), in_specs=spec,
        out_specs=pl.BlockSpec((rows, 16), lambda i: (i, 0)), compiler_params=CompilerParams(**options),
    )  # fmt: skip
    fusions = fusions_of(function, *given, capabilities=h100)
    (schedule,) = (bands.choose(fusion, h100) for fusion in fusions)
    assert schedule is not None
    return schedule


@pytest.mark.parametrize(("rows", "subgroups"), [(16, 1), (32, 2), (48, 1), (128, 8), (256, 8)])
def test_subgroups_share_the_rows(rows: int, subgroups: int, h100: Capabilities) -> None:
    assert schedule_of(h100, rows).workgroup == subgroups * h100.subgroup_size


def test_author_chooses_the_threads(h100: Capabilities) -> None:
    assert schedule_of(h100, 128, threads=64).workgroup == 64


@pytest.mark.parametrize(("rows", "band", "subgroups"), [(128, 32, 4), (128, 64, 2), (32, 64, 1), (256, 16, 8)])
def test_author_chooses_the_rows_of_a_band(rows: int, band: int, subgroups: int, h100: Capabilities) -> None:
    assert schedule_of(h100, rows, band=band).workgroup == subgroups * h100.subgroup_size


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"threads": 96}, "whole subgroups"),
        ({"threads": 0}, "whole subgroups"),
        ({"threads": 4096}, "whole subgroups"),
        ({"band": 0}, "a band must have rows"),
        ({"band": -16}, "a band must have rows"),
    ],
)
def test_what_no_workgroup_has_is_refused(options: dict[str, int], rule: str, h100: Capabilities) -> None:
    with pytest.raises(UnsupportedError, match=rule):
        _ = schedule_of(h100, 128, **options)


def test_fragments_have_the_dtype_of_the_factors(h100: Capabilities) -> None:
    given = tuple(typed(jnp.bfloat16, *each.shape) for each in (Q, K))
    (schedule,) = schedules_of(blocked(of_scores(jnp.exp), *given), *given, capabilities=h100)
    assert schedule.mode == bands.BANDS
    assert {shape.a for shape in schedule.fragments} == {"bf16"}


# -- what the author promises ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nan_in_extrema", [True, False])
def test_extrema_look_for_nan_unless_the_author_promises(nan_in_extrema: bool, h100: Capabilities) -> None:
    function = blocked(of_scores(lambda s: s.max(1)), Q, K, out=COLUMN, nan_in_extrema=nan_in_extrema)
    (fusion,) = fusions_of(function, Q, K, capabilities=h100)
    kernel = kernels.emit_kernel(fusion, choose(fusion, h100), h100, guarded=False)
    assert ("FMax" in kernel.text()) is not nan_in_extrema
