"""Holonomy along sequences: flatness, covariance, areas, against loops of the same links (theory G-9, G-10)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qga import ShapeError, quantum
from qga.geometry import constant_curvature, holonomy
from tests.qga.dense import rays
from tests.qga.tolerances import assert_close, assert_far

pytestmark = pytest.mark.usefixtures("x64")


def orthogonal(random: np.random.Generator, count: int, rank: int) -> np.ndarray:
    return np.linalg.qr(random.normal(size=(count, rank, rank)))[0]


def draw_frames(random: np.random.Generator, places: int = 9, width: int = 5, rank: int = 2) -> np.ndarray:
    """Draw frames that move on from place to place."""
    walk = np.cumsum(0.2 * random.normal(size=(places, width, rank)), axis=0) + np.eye(width, rank)
    return np.linalg.qr(walk)[0]


def turned(frames: np.ndarray, gauge: np.ndarray) -> np.ndarray:
    """Change each frame so that components go from x to g x."""
    return frames @ np.swapaxes(gauge, -1, -2)


def latitude(polar: float, steps: int) -> np.ndarray:
    """Return frames of the tangent planes of the sphere along a circle of latitude, the start not repeated."""
    angles = 2 * np.pi * np.arange(steps) / steps
    south = np.stack(
        [np.cos(polar) * np.cos(angles), np.cos(polar) * np.sin(angles), np.full(steps, -np.sin(polar))], axis=-1
    )
    east = np.stack([-np.sin(angles), np.cos(angles), np.zeros(steps)], axis=-1)
    return np.stack([south, east], axis=-1)


def close(got: object, want: object, scale: float = 20.0) -> None:
    assert_close(np.asarray(got).real, np.asarray(want).real, scale=scale)
    assert_close(np.asarray(got).imag, np.asarray(want).imag, scale=scale)


def closed(frames: np.ndarray) -> jax.Array:
    return holonomy.frame_links(jnp.asarray(np.concatenate([frames, frames[:1]])))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 7, 64, 65])
def test_flat_connection_leaves_no_trace(random: np.random.Generator, rank: int, steps: int) -> None:
    frames = orthogonal(random, steps, rank)
    after = np.roll(frames, -1, axis=0)
    links = jnp.asarray(frames @ np.swapaxes(after, -1, -2))
    assert_close(holonomy.around(links), np.eye(rank), depth=steps, scale=4.0)
    assert_close(holonomy.carry(links)[-1], np.eye(rank), depth=steps, scale=4.0)
    # The negative twin: one link turned.
    bent = links.at[steps // 2].set(-links[steps // 2])
    assert_far(holonomy.around(bent), np.eye(rank))


def test_rotary_positions_are_flat_along_a_long_sequence() -> None:
    places = 10_007
    states = np.stack([np.exp(0.37j * np.arange(places)), 2 * np.exp(0.37j * np.arange(places))], axis=1)
    starts, ends = np.arange(0, places - 100, 97), np.arange(100, places, 97)
    phases = holonomy.loop_phases(jnp.asarray(states), jnp.asarray(starts), jnp.asarray(ends))
    assert_close(phases, np.zeros(len(starts)), depth=places)
    states[:, 1] *= np.exp(0.01j * np.arange(places))
    bent = holonomy.loop_phases(jnp.asarray(states), jnp.asarray(starts), jnp.asarray(ends))
    assert_far(bent, np.zeros(len(starts)))


def test_products_are_those_of_a_loop(random: np.random.Generator) -> None:
    for links in (orthogonal(random, 11, 3), np.exp(1j * random.normal(size=11))):
        total = np.eye(3) if links.ndim == 3 else np.ones(())
        seen = [total]
        for link in links:
            total = total @ link if links.ndim == 3 else total * link
            seen.append(total)
        close(holonomy.carry(jnp.asarray(links)), np.stack(seen))
        close(holonomy.around(jnp.asarray(links)), total)
    matrices = orthogonal(random, 3, 3)
    # The order matters.
    assert_far(holonomy.around(jnp.asarray(matrices)), matrices[2] @ matrices[1] @ matrices[0])


def test_loop_phases_are_berry_phases(random: np.random.Generator) -> None:
    states = rays(random.normal(size=(12, 6)))
    starts, ends = np.array([0, 2, 5, 7, 3]), np.array([11, 6, 9, 8, 3])
    got = holonomy.loop_phases(jnp.asarray(states), jnp.asarray(starts), jnp.asarray(ends))
    want = [
        float(quantum.berry_phase(jnp.asarray(states[start : end + 1])))
        for start, end in zip(starts, ends, strict=True)
    ]
    assert_close(got, want, depth=12, scale=20.0)
    assert_close(got[3:], np.zeros(2), depth=12, scale=20.0)
    other = states * np.exp(1j * random.normal(size=(12, 1))) * random.uniform(1, 2, (12, 1))
    assert_close(
        holonomy.loop_phases(jnp.asarray(other), jnp.asarray(starts), jnp.asarray(ends)), want, depth=12, scale=20.0
    )
    assert_far(holonomy.loop_phases(jnp.asarray(states), jnp.asarray(starts), jnp.asarray(ends - (ends > 8))), want)


def test_orthogonal_neighbours_spoil_their_own_loops_alone(random: np.random.Generator) -> None:
    states = rays(random.normal(size=(12, 6)))
    states[5] -= (states[4].conj() @ states[5]) * states[4]
    starts, ends = jnp.array([0, 3, 5, 8]), jnp.array([3, 7, 9, 11])
    got = np.asarray(holonomy.loop_phases(jnp.asarray(states), starts, ends))
    assert np.array_equal(np.isnan(got), [False, True, False, False])
    frames = draw_frames(random, 12, 4, 2)
    frames[5] = np.linalg.svd(frames[4].T)[2][2:].T
    rotations = np.asarray(holonomy.loop_rotations(jnp.asarray(frames), starts, ends))
    assert np.array_equal(np.isnan(rotations).any((1, 2)), [False, True, False, False])


def test_rotations_follow_the_frames_and_their_angles_do_not(random: np.random.Generator) -> None:
    frames, gauge = draw_frames(random), orthogonal(random, 9, 2)
    starts, ends = np.array([0, 2, 4]), np.array([8, 5, 7])
    loops = jnp.asarray(starts), jnp.asarray(ends)
    before = holonomy.loop_rotations(jnp.asarray(frames), *loops)
    after = holonomy.loop_rotations(jnp.asarray(turned(frames, gauge)), *loops)
    here = gauge[starts]
    assert_close(after, here @ np.asarray(before) @ np.swapaxes(here, -1, -2), depth=9, scale=20.0)
    angles = holonomy.rotation_angles(before)
    assert_close(holonomy.rotation_angles(after), angles, depth=9, scale=20.0)
    assert_far(after, before)
    assert_far(angles, np.zeros((3, 2)))
    want = [holonomy.around(closed(frames[start : end + 1])) for start, end in zip(starts, ends, strict=True)]
    assert_close(before, np.stack(want), depth=9, scale=20.0)


def test_rotation_between_frames_is_the_nearest(random: np.random.Generator) -> None:
    frames = draw_frames(random, 2)
    link = np.asarray(holonomy.frame_links(jnp.asarray(frames)))[0]
    assert_close(link @ link.T, np.eye(2), scale=4.0)
    apart = np.linalg.norm(frames[1] - frames[0] @ link)
    others = [np.linalg.norm(frames[1] - frames[0] @ other) for other in orthogonal(random, 50, 2)]
    assert apart < min(others)


@pytest.mark.parametrize("polar", [0.4, 1.1, np.pi / 2])
def test_transport_around_a_latitude_turns_by_its_area(polar: float) -> None:
    area, errors = 2 * np.pi * (1 - np.cos(polar)), []
    for steps in (64, 128, 256):
        turn = np.asarray(holonomy.around(closed(latitude(polar, steps))))
        angle = np.arctan2(turn[1, 0], turn[0, 0])
        errors.append(abs(np.angle(np.exp(1j * (angle + area)))))
    if polar == np.pi / 2:
        # The equator is a geodesic.
        assert max(errors) < 1e-12
    else:
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
        assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)
        assert errors[2] < 1e-3


@pytest.mark.parametrize("curvature", [-1.0, 0.5, 0.0])
def test_triangle_turns_by_curvature_times_area(curvature: float, random: np.random.Generator) -> None:
    points = constant_curvature.project(jnp.asarray(0.6 * random.normal(size=(3, 2))), curvature=curvature)

    def dot(first: jax.Array, second: jax.Array) -> float:
        return float(constant_curvature.inner(first, second, curvature=curvature))

    def frame(point: jax.Array) -> list[jax.Array]:
        made: list[jax.Array] = []
        for axis in np.eye(2):
            time = -curvature * float(point[1:] @ axis) / float(point[0])
            tangent = jnp.asarray(np.concatenate([[time], axis]))
            for other in made:
                tangent = tangent - dot(other, tangent) * other
            made.append(tangent / np.sqrt(dot(tangent, tangent)))
        return made

    frames = [frame(point) for point in points]
    links, defect = [], -np.pi
    for here in range(3):
        there, last = (here + 1) % 3, (here + 2) % 3
        moved = [
            constant_curvature.transport(each, points[there], points[here], curvature=curvature)
            for each in frames[there]
        ]
        links.append([[dot(own, each) for each in moved] for own in frames[here]])
        sides = [constant_curvature.logarithm(points[here], points[to], curvature=curvature) for to in (there, last)]
        defect += np.arccos(dot(*sides) / np.sqrt(dot(sides[0], sides[0]) * dot(sides[1], sides[1])))
    angles = np.asarray(holonomy.rotation_angles(holonomy.around(jnp.asarray(links))))
    # By Gauss and Bonnet the angle defect is the curvature times the area.
    assert_close(angles, [-abs(defect), abs(defect)], scale=100.0)
    assert (abs(defect) < 1e-12) == (curvature == 0)
    if curvature:
        assert_far(angles, [-abs(defect) / 2, abs(defect) / 2])


def test_angles_of_a_reflection(random: np.random.Generator) -> None:
    basis = orthogonal(random, 1, 4)[0]
    block = np.diag([1.0, -1.0, np.cos(0.3), np.cos(0.3)])
    block[2, 3], block[3, 2] = -np.sin(0.3), np.sin(0.3)
    angles = np.asarray(holonomy.rotation_angles(jnp.asarray(basis @ block @ basis.T)))
    assert_close(np.sort(np.abs(angles)), [0, 0.3, 0.3, np.pi], scale=20.0)


@pytest.mark.parametrize("rank", [0, 2])
def test_memory_of_a_long_sequence_is_that_of_its_places(rank: int) -> None:
    places, width, loops = 8192, 16, 100
    shape, dtype = ((places, width), jnp.complex64) if rank == 0 else ((places, width, rank), jnp.float32)
    function = holonomy.loop_phases if rank == 0 else holonomy.loop_rotations
    index = jax.ShapeDtypeStruct((loops,), jnp.int32)
    found = jax.jit(function).lower(jax.ShapeDtypeStruct(shape, dtype), index, index).compile().memory_analysis()
    sequence_bytes = np.prod(shape) * dtype.dtype.itemsize
    assert found.temp_size_in_bytes < 4 * sequence_bytes
    # A table of all pairs would hold this much.
    assert found.temp_size_in_bytes < places**2


def test_holonomy_refuses_what_is_no_path() -> None:
    with pytest.raises(ShapeError, match=r"holonomy.carry: links are numbers or square matrices"):
        holonomy.carry(jnp.ones((3, 2)))
    with pytest.raises(ShapeError, match=r"holonomy.around: links"):
        holonomy.around(jnp.ones(0))
    with pytest.raises(ShapeError, match=r"holonomy.state_links: a path joins places"):
        holonomy.loop_phases(jnp.ones((1, 3), complex), jnp.array([0]), jnp.array([0]))
    with pytest.raises(ShapeError, match=r"holonomy.frame_links: a path"):
        holonomy.frame_links(jnp.ones((4, 3)))
    with pytest.raises(ShapeError, match=r"rotation_angles: a rotation is square"):
        holonomy.rotation_angles(jnp.ones((3, 2)))
