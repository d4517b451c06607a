"""What an attack is: a script or a statement, and what tells that it got through.

An attack is a function of the arena that returns what it got, None where it was contained.  What all have in common is
told by `judge`: the canary in anything that its author sees, a witness that heard, an honest call that is not answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psycopg

from benchmarks.escape.arena import Arena

CALLS = """
import ctypes, os, errno, platform
_c = ctypes.CDLL(None, use_errno=True)
_c.syscall.restype = ctypes.c_long
X86 = platform.machine() == 'x86_64'
def call(number, *a):
    if number is None:
        return -1
    return _c.syscall(ctypes.c_long(number), *[ctypes.c_long(x) if isinstance(x, int) else x for x in a])
found = []
def attempt(work):
    try:
        got = work()
        if got:
            found.append(str(got))
    except BaseException as error:
        found.append('refused: ' + type(error).__name__)
"""


@dataclass(frozen=True)
class Attack:
    """One attack; description is its docstring.

    harmless: only reads or connects, so that it may be tried without a sandbox, where it must get through.
    layered: the sandbox contains it, and so each of its layers must.
    """

    name: str
    description: str
    work: Callable[[Arena], str | None]
    harmless: bool = False
    layered: bool = True


ATTACKS: list[Attack] = []


def attack(work: Callable[[Arena], str | None], *, harmless: bool = False, layered: bool = True) -> Callable[[Arena], str | None]:
    """Add a function to the list."""
    ATTACKS.append(Attack(work.__name__.replace("_", " "), (work.__doc__ or "").strip(), work, harmless, layered))
    return work


harmless_attack = partial(attack, harmless=True)
attack_elsewhere = partial(attack, layered=False)  # on the database or the router, whatever the sandbox


def judge(arena: Arena, found: Attack) -> str | None:
    """Carry an attack out; returns what it got, None where it was contained and nobody else noticed."""
    arena.heard.clear()
    try:
        got = found.work(arena)
    except psycopg.Error as error:
        got = f"the server: {error}"
    if got is None and arena.heard:
        got = f"reached a socket: {', '.join(sorted(set(arena.heard)))}"
    if got is None and not arena.works():
        got = "an honest call is not answered afterwards"
    if got is None and (arena.folder / "canary.txt").read_text() != arena.canary:
        got = "a file outside was changed"
        (arena.folder / "canary.txt").write_text(arena.canary)
    return got


def told(arena: Arena, script: str, *, language: str = "python", timeout_s: float = 10) -> str | None:
    """Run a script whose author must not see the canary in anything."""
    seen = arena.run((CALLS if language == "python" else "") + script, language=language, timeout_s=timeout_s)
    return f"learned the canary: {seen[:200]}" if arena.canary in seen else None


def said(arena: Arena, script: str, *, timeout_s: float = 10) -> str | None:
    """Run a script that prints GOT where it got something."""
    seen = arena.run(CALLS + script, timeout_s=timeout_s)
    lines = [line for line in seen.splitlines() if line.startswith("GOT")]
    return lines[0] if lines else None
