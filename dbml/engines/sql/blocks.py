"""Blocks: trees cut so that a walk goes down several levels at each step, and asks bits instead of comparing floats.

A statement of PL/pgSQL costs as much as several comparisons; and to look up a node's feature, its threshold and the
feature's value, all of them in arrays, costs more than to compare.  So a row is compared with all thresholds at once: those of a
feature are known and sorted, one search finds the smaller ones, and a string of bits says of each whether the feature is at most
that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dbml.engines.sql.expressions import Tree

MOST_LEVELS = 5  # of a block


@dataclass(frozen=True)
class Limits:
    """The thresholds that a feature is compared with, in ascending order; missing_left: of nodes from which none goes left."""

    feature: int
    missing_left: bool
    thresholds: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Blocks:
    """The nodes of trees, some levels of them a block; the first blocks begin with the roots, in the order of the trees.

    limits: their thresholds, one behind the other, are the bits.  bit: (n_blocks, 2 ** levels - 1), what each node asks, from 0;
    those below the node at i are at 2 i + 1, where it is set, and 2 i + 2.  Where a leaf stands above, either leads to that.
    child: (n_blocks, 2 ** levels), where the last level leads: n > 0 is block n - 1, n < 0 leaf -n - 1.
    value: (n_leaves, n_outputs).
    """

    limits: list[Limits]
    bit: npt.NDArray[np.int64]
    child: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


def cut(trees: Sequence[Tree]) -> Blocks:
    """Cut trees into blocks."""
    sizes = [len(tree.left) for tree in trees]
    roots = np.cumsum([0, *sizes[:-1]])
    base = np.repeat(roots, sizes)

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    leaf = joined("left") < 0
    # Below a leaf is the leaf itself, so that all paths are as long as a block is deep.
    left, right = (np.where(leaf, np.arange(len(leaf)), joined(side) + base) for side in ("left", "right"))
    bit = np.zeros(len(leaf), dtype=np.int64)
    limits = list(_limits(np.flatnonzero(~leaf), joined("feature"), joined("missing_left"), joined("threshold"), bit))
    number = np.zeros(len(leaf), dtype=np.int64)
    number[leaf] = -1 - np.arange(leaf.sum())
    levels = _levels(roots, leaf, left, right)
    heads, count = roots, 0
    nodes: list[npt.NDArray[np.int64]] = []
    ends: list[npt.NDArray[np.int64]] = []
    while len(heads):
        level, above = heads[:, None], []
        for _ in range(levels):
            above.append(level)
            level = np.stack([left[level], right[level]], axis=-1).reshape(len(heads), -1)
        nodes.append(np.concatenate(above, axis=1))
        ends.append(level)
        if count:  # a root is told by its place, and may be a leaf
            number[heads] = count + 1 + np.arange(len(heads))
        count += len(heads)
        heads = level[~leaf[level]]
    return Blocks(limits, bit[np.concatenate(nodes)], number[np.concatenate(ends)], joined("value")[leaf].astype(float))


def _limits(
    inner: npt.NDArray[np.int64], feature: npt.NDArray[Any], missing_left: npt.NDArray[Any], threshold: npt.NDArray[Any],
    bit: npt.NDArray[np.int64],
) -> Iterator[Limits]:  # fmt: skip
    """Yield what features are compared with, and write down which bit each inner node asks."""
    start = 0
    for of in np.unique(feature[inner]):
        for side in (False, True):
            own = inner[(feature[inner] == of) & (missing_left[inner].astype(bool) == side)]
            if len(own):
                thresholds, place = np.unique(threshold[own], return_inverse=True)
                bit[own] = start + place
                start += len(thresholds)
                yield Limits(int(of), side, thresholds)


def _levels(roots: npt.NDArray[Any], leaf: npt.NDArray[Any], left: npt.NDArray[Any], right: npt.NDArray[Any]) -> int:
    """Return how deep blocks are, so that the deepest tree has few of them on a path, and the last is not half empty."""
    depth, level = 0, roots
    while len(level := level[~leaf[level]]):
        depth, level = depth + 1, np.concatenate([left[level], right[level]])
    return -(-depth // -(-depth // MOST_LEVELS)) if depth else 1
