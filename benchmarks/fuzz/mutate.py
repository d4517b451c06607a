"""Mutations of valid samples: what is fed where nothing guides the fuzzer, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

LONGEST = 4096
ODD = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\n", b" ", b"-1", b"NaN", b"1e999",
       b"9" * 30, b"{", b"[" * 50, b"}", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"null", b'"', b"\\")  # fmt: skip


def inputs(samples: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield the samples, and then mutations of them without end."""
    yield from samples
    chance = random.Random(seed)
    kept = list(samples)
    while True:
        data = bytearray(chance.choice(kept))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            _change(data, chance, kept)
        made = bytes(data[:LONGEST])
        if chance.random() < 0.002:  # some go on from where others ended
            kept[chance.randrange(len(samples), len(kept) + 1) - 1 if len(kept) > 2 * len(samples) else -1] = made
            kept.extend(samples[:1] if len(kept) < 2 * len(samples) else ())
        yield made


def _change(data: bytearray, chance: random.Random, samples: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(9):
        case 0 if data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[at % len(data)] = chance.randrange(256)
        case 2:
            data[at:at] = chance.choice(ODD)
        case 3:
            odd = chance.choice(ODD)
            data[at : at + len(odd)] = odd
        case 4:
            del data[at : at + chance.choice((1, 2, 4, 16, 256))]
        case 5:
            other = chance.choice(samples)
            begin = chance.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + chance.choice((1, 4, 16, 64, 1024))]
        case 6:
            del data[at:]
        case 7:
            piece = data[at : at + chance.choice((1, 2, 8, 64))]
            data[at:at] = piece * chance.choice((1, 2, 10))
        case _:
            data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8)))
