#!/usr/bin/env bash
# Makes a checkout ready for `python -m tests.bench` where the package is not installed: compiles the plugin's one C file
# in place for the Python of $PYTHON (default: python3) and says what is missing. Changes nothing else.
# Packages may lie on PYTHONPATH. Exit status 1 where the benchmark cannot run at all.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

"$python" - <<'PYTHON'
import importlib.util
import sys

NEEDED = {
    "jax": "everything", "jaxlib": "everything", "numpy": "everything", "ml_dtypes": "everything", "optax": "train, compile",
    "vulkan": "every device", "cffi": "every device",
}
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
for name in missing:
    print(f"prepare: the package {name} is missing; needed for: {NEEDED[name]}")
if sys.version_info < (3, 11):
    sys.exit(f"prepare: Python {sys.version.split()[0]} is too old; 3.11 is the oldest")
if not any(importlib.util.find_spec(name) for name in ("jax_cuda13_plugin", "jax_cuda12_plugin")):
    print("prepare: no CUDA plugin of JAX; the peer will be JAX on the CPU")
sys.exit(1 if missing else 0)
PYTHON

compiler=${CC:-cc}
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
target=lowering/pjrt/_native.abi3.so
if ! command -v "$compiler" >/dev/null 2>&1; then
  echo "prepare: no C compiler ($compiler); dispatch and train stay out, the rest runs"
elif [ ! -e "$include/Python.h" ]; then
  echo "prepare: $include/Python.h is missing; dispatch and train stay out, the rest runs"
elif [ "$target" -nt lowering/pjrt/native.c ] && "$python" -c 'import lowering.pjrt._native' 2>/dev/null; then
  echo "prepare: $target is there"
else
  # Replaced, never written into: a running program may hold the old file open.
  "$compiler" -std=c11 -O2 -Wall -Wextra -fPIC -fvisibility=hidden -shared -DPy_LIMITED_API=0x030B0000 \
    "-I$include" lowering/pjrt/native.c -o "$target.new"
  mv "$target.new" "$target"
  "$python" -c 'import lowering.pjrt._native'
  echo "prepare: compiled $target"
fi

"$python" - <<'PYTHON'
import sys

from lowering.errors import QgaError
from lowering.runtime import list_devices

try:
    devices = list_devices()
except QgaError as error:
    sys.exit(f"prepare: {error}")
for device in devices:
    lacks = f"; lacks {', '.join(device.missing)}" if device.missing else ""
    print(f"prepare: device {device.text}{lacks}")
sys.exit(0 if any(not device.missing for device in devices) else "prepare: no device can be used")
PYTHON
