"""How a function is called: between its nested arguments and results and the flat arrays of a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .errors import InputError, message


@dataclass(frozen=True, slots=True)
class Signature:
    """The structure of a function's arguments (without static ones) and results.

    Attributes:
        name: of the function.
        arguments: tree of (positional, keyword) arguments.
        results: tree of what it returns.
        kept: positions of the leaves that the program takes; the others do not matter to it.
    """

    name: str
    arguments: Any
    results: Any
    kept: tuple[int, ...]

    def flatten(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
        """Return the leaves that the program takes, in its order.

        Raises:
            InputError: the arguments are nested differently from those it was lowered for.
        """
        leaves, tree = jax.tree.flatten((tuple(arguments), dict(keywords)))
        if len(leaves) != self.arguments.num_leaves:
            return leaves
        if tree != self.arguments:
            raise InputError(
                message(
                    f"{self.name}: arguments must be nested as those it was compiled for.",
                    got=str(tree),
                    want=str(self.arguments),
                    fix="pass the same structure of tuples, lists and dictionaries, without static arguments.",
                )
            )
        return [leaves[position] for position in self.kept]

    def unflatten(self, results: Sequence[np.ndarray]) -> Any:
        """Return the results nested as the function returns them."""
        return jax.tree.unflatten(self.results, results)
