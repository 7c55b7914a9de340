"""What every part of an opened device shares: handles, functions, facts, counts and the one lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from .counts import LiveObjects
from .device_plan import DevicePlan
from .facts import DeviceFacts
from .instance import Instance
from .loader import Functions


@dataclass(frozen=True, slots=True)
class Context:
    """An opened VkDevice. Borrowed by the parts of `Device`, which owns and closes it.

    `lock` guards the queue, the command pool, memory bookkeeping and program slots. It is not re-entrant: methods named
    `…_locked` expect the caller to hold it, and finalizers never take it.
    """

    instance: Instance
    physical: Any
    handle: Any
    functions: Functions
    facts: DeviceFacts
    plan: DevicePlan
    counts: LiveObjects = field(default_factory=LiveObjects)
    lock: threading.Lock = field(default_factory=threading.Lock)
