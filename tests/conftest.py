"""Fixtures and settings of the whole suite, and the closing table that says how many tests ran on which driver.

Nothing here imports JAX or the runtime until a test asks for it, so that tests of plain data start at once.
"""

from __future__ import annotations

import collections
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from lowering.runtime import Device
    from shaders.capabilities import Capabilities

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
DEVICE_FIXTURES = frozenset({"device", "vulkan"})
# `.ci/run` sets this where a driver answers: a device that does not open is then a failure, not a skip.
REQUIRE_DEVICE = "QGA_TEST_REQUIRE_DEVICE"
DRIVER_PROPERTY = "vulkan_driver"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag of the suite."""
    parser.addoption("--update-golden", action="store_true", help="write the golden texts anew; read the diff after")


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def jax_settings() -> None:
    """Make JAX refuse implicit dtype and rank promotion, from the first test on that has JAX loaded."""
    jax = sys.modules.get("jax")
    if jax is not None and hasattr(jax, "config"):
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the caches of the person who runs the suite out of it, in both directions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# --- devices --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def device() -> Iterator[Device]:
    """Open the Vulkan device the suite runs on; skip, and say why, where there is none."""
    from lowering.errors import DeviceError
    from lowering.runtime import Device

    try:
        opened = Device.open()
    except DeviceError as error:
        _without_device(f"no Vulkan device: {_first_line(error)}")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def vulkan() -> Any:
    """Return JAX's first device of the platform `vulkan`; skip, and say why, where the platform cannot start."""
    import jax

    from lowering.pjrt import initialize

    initialize()
    try:
        return jax.devices("vulkan")[0]
    except RuntimeError as error:
        _without_device(f"no platform vulkan: {_first_line(error)}")


def _without_device(reason: str) -> NoReturn:
    if os.environ.get(REQUIRE_DEVICE) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@pytest.fixture(params=["lavapipe22", "lavapipe26", "h100"])
def capabilities(request: pytest.FixtureRequest) -> Capabilities:
    """Return what each known kind of device can do, so that plans are tested for all of them without any."""
    from shaders.capabilities import Capabilities

    return Capabilities.from_text((TESTS / "shaders" / "capabilities" / f"{request.param}.json").read_text())


# --- goldens --------------------------------------------------------------------------------------------------------


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that compares text with the golden file `tests/golden/<path>/<test>.<suffix>`."""
    update = bool(request.config.getoption("--update-golden"))
    folder = GOLDEN / request.path.relative_to(TESTS).with_suffix("")
    name = request.node.name.removeprefix("test_")

    def compare(text: str, suffix: str = "txt") -> None:
        file = folder / f"{name}.{suffix}"
        text = text.rstrip("\n") + "\n"
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif not file.exists():
            pytest.fail(
                f"no golden {file.relative_to(TESTS)}: run this test with --update-golden and read what it writes"
            )
        assert text == file.read_text(), (
            f"differs from {file.relative_to(TESTS)}; --update-golden accepts, after reading"
        )

    return compare


# --- which tests ran on which driver --------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Note the driver a test ran on; the properties of a report travel from the worker processes."""
    driver = _driver_of(item)
    if driver is not None:
        item.user_properties.append((DRIVER_PROPERTY, driver))


def _driver_of(item: pytest.Item) -> str | None:
    """Name the driver a test runs on: of a device among its fixtures, else of the one the environment chooses."""
    runtime = sys.modules.get("lowering.runtime")
    values = getattr(item, "funcargs", {}).values()
    opened = next((value for value in values if runtime is not None and isinstance(value, runtime.Device)), None)
    if opened is not None:
        return f"{opened.record.driver_name} {opened.record.driver_version}"
    names = getattr(item, "fixturenames", ())
    if item.get_closest_marker("vulkan_device") is None and DEVICE_FIXTURES.isdisjoint(names):
        return None
    return _chosen_driver()


@functools.cache
def _chosen_driver() -> str:
    from lowering.runtime import list_devices, settings_from_environment
    from lowering.runtime.select import choose_device

    record = choose_device(list_devices(), settings_from_environment().selector)
    return f"{record.driver_name} {record.driver_version}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests ran on each driver, how many needed none, and why others were skipped."""
    drivers: collections.Counter[str] = collections.Counter()
    for outcome in ("passed", "failed", "xfailed"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call":
                drivers[dict(report.user_properties).get(DRIVER_PROPERTY, "none")] += 1
    skips = collections.Counter(_skip_reason(report) for report in terminalreporter.getreports("skipped"))
    ran = ", ".join(f"{name}: {count}" for name, count in sorted(drivers.items())) or "none: 0"
    why = f" ({'; '.join(f'{count} {reason}' for reason, count in skips.most_common())})" if skips else ""
    terminalreporter.section("tests by driver")
    terminalreporter.write_line(f"tests by driver: {ran}, skipped: {skips.total()}{why}")


def _skip_reason(report: Any) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
