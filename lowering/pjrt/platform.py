"""One platform of this process: its table, its client, the thread that frees what jaxlib gave back, and its exit."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable

from .. import compat
from . import _native as native
from . import table
from .client import Client
from .engine import Engine

# Handles given back while nothing calls the plugin are dropped in batches, this long after the first of them.
REAP_SECONDS = 0.05
# How long process exit waits for calls of other threads that are still inside the plugin.
EXIT_MILLISECONDS = 5000


class Platform:
    """Makes JAX clients of one platform name. Lives as long as the process, as the table of slots does."""

    def __init__(self, name: str, open_engine: Callable[[], Engine]) -> None:
        self.name = name
        self.open_engine = open_engine
        self.engine: Engine | None = None
        self.client: Client | None = None
        self.reaper: threading.Thread | None = None
        self.process = os.getpid()

    def make_client(self) -> object:
        """Open the engine and return the client of jaxlib for it.

        Raises:
            DeviceError: the engine cannot be opened.
        """
        self.engine = self.open_engine()
        if self.reaper is None:
            compat.load_plugin(self.name, table.build(self.create_client))
            self.reaper = threading.Thread(target=_reap, name="vulkan-reaper", daemon=True)
            self.reaper.start()
            atexit.register(self.exit)
        return compat.make_client(self.name)

    def create_client(self) -> Client:
        """Wrap the open engine for jaxlib."""
        assert self.engine is not None
        self.client, self.engine = Client(self.name, self.engine), None
        return self.client

    def exit(self) -> None:
        """Let running work finish, then keep other threads out of a dying interpreter; a forked child has none."""
        if os.getpid() != self.process:
            return
        if self.client is not None:
            self.client.is_exiting = True
            self.client.settle()
        native.leave(EXIT_MILLISECONDS)
        native.stop_reaper()
        if self.reaper is not None:
            self.reaper.join()


def _reap() -> None:
    while native.wait_for_garbage():
        time.sleep(REAP_SECONDS)
        native.collect()
