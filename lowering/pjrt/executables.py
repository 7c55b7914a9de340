"""Executables: compile a module, describe it to jaxlib, run it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from ..errors import InputError, UnsupportedError, message
from . import _native as native
from . import engine, spec
from .arrays import DeviceArray, with_room
from .client import MEMORY_KIND, Client
from .codes import ELEMENT_TYPES
from .values import NamedValues, Text, Words

# Which answer of a loaded executable's handle says that it was deleted.
DELETED = 0
# What a serialized executable starts with: it holds the module, which is compiled again where it is loaded.
MAGIC = b"qga-vulkan-stablehlo-1\n"
# DeviceAssignmentProto: one replica, one computation, on device 0.
ASSIGNMENT = bytes([0x08, 1, 0x10, 1, 0x1A, 3, 0x0A, 1, 0])

# Objects that own memory, and what is answered: numbers and addresses in that memory.
Answer = tuple[object, tuple[int, ...]]

_PROGRAM = spec.fields(spec.STRUCTURES["Program"])
_PROGRAM_FIELDS = tuple((field.offset, field.code) for field in _PROGRAM)
_KEPT_INPUTS = tuple(
    (field.offset, field.code)
    for field in spec.fields(spec.STRUCTURES["ExecuteOptions"])
    if field.name in ("non_donatable_input_indices", "num_non_donatable_input_indices")
)


class LoadedExecutable:
    """A compiled module on its device: what to run, and the memory of every answer about it."""

    def __init__(self, client: Client, program: engine.Executable, module: bytes, options: bytes) -> None:
        self.client = client
        self.program: engine.Executable | None = program
        self.module = Text(module)
        self.options = Text(options)
        self.name = Text(program.name)
        self.inputs = [client.kind(item.dtype, item.shape) for item in program.input_types]
        self.outputs = [client.kind(item.dtype, item.shape) for item in program.output_types]
        self.output_dtypes = [item.dtype for item in program.output_types]
        self.aliases = tuple(program.aliases)
        self.donatable = frozenset(position for position, _ in self.aliases)
        digest = hashlib.sha256(module + client.engine.version.encode())
        self.fingerprint = Text(digest.hexdigest())
        self.assignment = Text(ASSIGNMENT)
        self.logical_ids = Words((0,))
        self._kept: dict[str, Answer] = {}
        self.handle = native.new_handle(self, Words((0,)).data.tobytes())

    def keep(self, name: str, make: Callable[[], Answer]) -> tuple[int, ...]:
        """Return an answer that is built when it is first asked for; its memory lives as long as this object."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name][1]


def compile_program(client: Client, program: int, compile_options: int, compile_options_size: int) -> int:
    """Compile a StableHLO module and load it on the device."""
    code, code_size, name, name_size = native.fields(program, _PROGRAM_FIELDS)
    language = bytes(native.view(name, name_size, False)).decode()
    if language != "mlir":
        raise UnsupportedError(
            message(
                "platform vulkan: programs must be StableHLO.",
                got=f"a program in the format {language!r}",
                want="the format 'mlir'",
                fix="let jax.jit lower the function, or export it with jax.export.",
            )
        )
    module = bytes(native.view(code, code_size, False))
    options = bytes(native.view(compile_options, compile_options_size, False)) if compile_options_size else b""
    return LoadedExecutable(client, client.engine.compile(module), module, options).handle


def deserialize(client: Client, serialized_executable: int, serialized_executable_size: int) -> int:
    """Load what `serialize` wrote: compile its module for this device."""
    data = bytes(native.view(serialized_executable, serialized_executable_size, False))
    if not data.startswith(MAGIC):
        raise InputError(
            message(
                "platform vulkan: a serialized executable must come from this platform.",
                got=f"{len(data)} bytes that start with {data[:24]!r}",
                want=f"bytes that start with {MAGIC!r}",
                fix="compile the function again on this platform.",
            )
        )
    module = data[len(MAGIC) :]
    return LoadedExecutable(client, client.engine.compile(module), module, b"").handle


def run(
    executable: LoadedExecutable,
    options: int,
    argument_lists: int,
    num_devices: int,
    num_args: int,
    output_lists: int,
    device_complete_events: int,
) -> None:
    """Start the program on its arguments; outputs and the event of completion exist when this returns."""
    program = executable.program
    if program is None or num_devices != 1:
        raise _run_error(executable, num_devices)
    arrays = native.owners(argument_lists, num_args)
    buffers = [array.live_buffer() for array in arrays]
    given = _donated(executable, options, arrays) if executable.donatable else ()
    # A transfer that is still reading keeps its memory; the program then writes elsewhere.
    taken = frozenset(position for position in given if not arrays[position].readers)
    results = with_room(lambda: program.run(buffers, taken))
    for position in given:
        arrays[position].mark_deleted()
    client = executable.client
    kinds = executable.outputs
    native.store(
        output_lists, [DeviceArray(client, kind, buffer).handle for kind, buffer in zip(kinds, results, strict=True)]
    )
    if results:
        client.last_value = results[0].ready
    if device_complete_events:
        event = client.completion_at(results[0].ready) if results else native.READY
        native.store_one(device_complete_events, event)


def _donated(executable: LoadedExecutable, options: int, arrays: list[DeviceArray]) -> list[int]:
    """Return the inputs that the caller gives up.

    Raises:
        InputError: a donated array is passed a second time.
    """
    address, count = native.fields(options, _KEPT_INPUTS) if options else (0, 0)
    kept = set(native.view(address, 8 * count, False).cast("q")) if count else set()
    donated = [i for i in executable.donatable if i not in kept]
    taken = {id(arrays[i]) for i in donated}
    if sum(id(array) in taken for array in arrays) > len(donated):
        raise _donated_twice(executable, arrays, taken)
    return donated


def _donated_twice(executable: LoadedExecutable, arrays: list[DeviceArray], taken: set[int]) -> InputError:
    places = [i for i, array in enumerate(arrays) if id(array) in taken]
    return InputError(
        message(
            "platform vulkan: a donated array must be passed once.",
            got=f"one array in several of the arguments {places} of {executable.name.data.decode()}, donated in one",
            want="an array of its own for each argument that is donated",
            fix="pass a copy (jnp.copy), or do not list the argument in donate_argnums.",
        )
    )


def _run_error(executable: LoadedExecutable, num_devices: int) -> InputError:
    name = executable.name.data.decode()
    got = f"{name}, deleted" if executable.program is None else f"{name} on {num_devices} devices"
    return InputError(
        message(
            "platform vulkan: a program must be loaded, and runs on one device.",
            got=got,
            want="a live program and one device",
            fix="call the jitted function again instead of keeping its executable.",
        )
    )


def delete(executable: LoadedExecutable) -> None:
    """Drop the compiled program; its descriptions stay."""
    executable.program = None
    native.set_answer(executable.handle, DELETED, 1)


def executable_handle(loaded_executable: LoadedExecutable) -> int:
    """Return a new handle of the executable; its native answers are the number of replicas and of outputs."""
    return native.new_handle(loaded_executable, struct.pack("=QQ", 1, len(loaded_executable.outputs)))


def devices(executable: LoadedExecutable) -> tuple[int, int]:
    """Return the one device it is loaded on."""
    return executable.client.devices.pair


def logical_ids(executable: LoadedExecutable) -> tuple[int, int]:
    """Return replica 0, partition 0 (two 32-bit integers)."""
    return executable.logical_ids.pair


def device_assignment(executable: LoadedExecutable) -> tuple[int, int, int, int]:
    """Return the serialized device assignment, its owner, and what frees it."""
    return (*executable.assignment.pair, executable.handle, native.NOTHING)


def name(executable: LoadedExecutable) -> tuple[int, int]:
    """Return the name of the module."""
    return executable.name.pair


def fingerprint(executable: LoadedExecutable) -> tuple[int, int]:
    """Return a text that is equal for equal modules, drivers and compilers."""
    return executable.fingerprint.pair


def output_element_types(executable: LoadedExecutable) -> tuple[int, ...]:
    """Return the element types (32-bit) of the outputs."""

    def make() -> Answer:
        types = [ELEMENT_TYPES[dtype] for dtype in executable.output_dtypes]
        packed = Text(struct.pack(f"={len(types)}i", *types))
        return packed, (packed.pair[0], len(types))

    return executable.keep("element types", make)


def output_dimensions(executable: LoadedExecutable) -> tuple[int, ...]:
    """Return number of outputs, all their dimensions in a row, and the rank of each."""

    def make() -> Answer:
        shapes = [kind.shape for kind in executable.outputs]
        extents = Words(extent for shape in shapes for extent in shape)
        ranks = Words(len(shape) for shape in shapes)
        return (extents, ranks), (len(shapes), extents.address, ranks.address)

    return executable.keep("dimensions", make)


def _memory_kinds(executable: LoadedExecutable, count: int) -> tuple[int, ...]:
    def make() -> Answer:
        address, size = executable.client.memory_kind.pair
        names, sizes = Words([address] * count), Words([size] * count)
        return (names, sizes), (count, names.address, sizes.address)

    return executable.keep(f"{count} in {MEMORY_KIND}", make)


def output_memory_kinds(executable: LoadedExecutable) -> tuple[int, ...]:
    """Return for each output the kind of memory it is in."""
    return _memory_kinds(executable, len(executable.outputs))


def parameter_memory_kinds(executable: LoadedExecutable) -> tuple[int, ...]:
    """Return for each input the kind of memory it must be in."""
    return _memory_kinds(executable, len(executable.inputs))


def cost_analysis(executable: LoadedExecutable) -> tuple[int, ...]:
    """Return count and address of the named costs that the compiler estimates."""

    def make() -> Answer:
        costs = executable.program.cost() if executable.program is not None else {}
        values = NamedValues({key: float(value) for key, value in costs.items()})
        return values, (values.pair[1], values.pair[0])

    return executable.keep("cost", make)


def memory_statistics(executable: LoadedExecutable) -> tuple[int, ...]:
    """Return the bytes of code, arguments, outputs, aliases and temporaries, as PJRT orders them."""
    arguments = sum(kind.nbytes for kind in executable.inputs)
    outputs = sum(kind.nbytes for kind in executable.outputs)
    aliased = sum(executable.outputs[output].nbytes for _, output in executable.aliases)
    costs = executable.program.cost() if executable.program is not None else {}
    temporaries = int(costs.get("temporary bytes", 0))
    total = arguments + outputs - aliased + temporaries
    return (0, arguments, outputs, aliased, temporaries, 0, 0, 0, 0, 0, total, total, total, 0, 0)


def optimized_program(executable: LoadedExecutable, program: int) -> None:
    """Write the module (StableHLO) into a PJRT_Program: sizes first, the bytes once there is room for them."""
    offsets = {field.name: field.offset for field in _PROGRAM}
    memory = native.view(program, offsets["format_size"] + 8, True)
    code, *_ = native.fields(program, _PROGRAM_FIELDS)
    data = executable.module.data
    if code:
        native.view(code, len(data), True)[:] = data
    struct.pack_into("=Q", memory, offsets["code_size"], len(data))
    format_name = executable.keep("format", lambda: (text := Text("mlir"), text.pair))
    struct.pack_into("=QQ", memory, offsets["format"], *format_name)


def serialize(executable: LoadedExecutable) -> tuple[int, int, int, int]:
    """Return the serialized executable, an object that keeps it alive, and what frees that object."""

    def make() -> Answer:
        text = Text(MAGIC + executable.module.data)
        return text, text.pair

    address, size = executable.keep("serialized", make)
    return address, size, native.new_handle(executable, b""), native.RELEASE


def compile_options(executable: LoadedExecutable) -> tuple[int, int, int, int]:
    """Return the serialized options it was compiled with, an object that keeps them alive, and what frees it."""
    owner = native.new_handle(executable, b"")
    return (*executable.options.pair, owner, native.RELEASE)
