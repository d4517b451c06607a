"""Pickles are read without being loaded: what attacks import is found, and ordinary models are told as harmless."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import pickle
import struct
import time
import zlib
from typing import Any

import cloudpickle
import joblib
import numpy
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from dbml.formats.contents import contents_of
from dbml.formats.picture import Limits
from dbml.formats.policy import Policy
from dbml.formats.verdicts import DANGEROUS, ESTIMATORS, HARMLESS, UNKNOWN, UNTOLD, verdict_of
from dbml.formats.walk import walk

STRICT = Policy(())


def told(content: bytes, **limits: int) -> dict[str, str]:
    """The verdicts by full name; of a remark, by its text."""
    found = walk(content, Limits(**limits))
    return {f"{one.module}.{one.name}" if one.module is not None else str(one.note): one.verdict for one in found}


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: bytes, name: bytes) -> bytes:
    return b"\x80\x04" + module + name + b"\x93"


CALL = b"(\x8c\x02idtR."  # ('id',) REDUCE STOP

ATTACKS: dict[str, tuple[bytes, str]] = {
    "os.system, protocol 0": (b"cos\nsystem\n(S'id'\ntR.", "os.system"),
    "os.system, protocol 2": (b"\x80\x02cos\nsystem\n" + b"X\x02\x00\x00\x00id\x85R.", "os.system"),
    "os.system, protocol 4": (stack_global(short("os"), short("system")) + CALL, "os.system"),
    "posix.system": (stack_global(short("posix"), short("system")) + CALL, "posix.system"),
    "by INST": (b"(S'id'\nios\nsystem\n.", "os.system"),
    "by OBJ": (b"(cos\nsystem\nS'id'\no.", "os.system"),
    "by NEWOBJ": (b"\x80\x02csubprocess\nPopen\nX\x02\x00\x00\x00id\x85\x81.", "subprocess.Popen"),
    "by NEWOBJ_EX": (stack_global(short("subprocess"), short("Popen")) + short("id") + b"\x85}\x92.", "subprocess.Popen"),
    "the module's name by the memo": (b"\x80\x04" + short("os") + b"\x940h\x00" + short("system") + b"\x93" + CALL, "os.system"),
    "a memo filled twice": (b"\x80\x04" + short("json") + b"q\x050" + short("os") + b"q\x050h\x05" + short("system") + b"\x93" + CALL, "os.system"),
    "by DUP": (b"\x80\x04" + short("os") + b"20" + short("system") + b"\x93" + CALL, "os.system"),
    "the name as UNICODE, escaped": (b"\x80\x04V\\u006fs\n" + short("system") + b"\x93" + CALL, "os.system"),
    "the name as STRING": (b"\x80\x04S'os'\nS'system'\n\x93" + CALL, "os.system"),
    "Python 2's name of a module": (b"ccommands\ngetoutput\n(S'id'\ntR.", "subprocess.getoutput"),
    "Python 2's builtins": (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
    "exec": (stack_global(short("builtins"), short("exec")) + CALL, "builtins.exec"),
    "import": (stack_global(short("builtins"), short("__import__")) + CALL, "builtins.__import__"),
    "importlib": (stack_global(short("importlib"), short("import_module")) + CALL, "importlib.import_module"),
    "runpy": (stack_global(short("runpy"), short("_run_code")) + CALL, "runpy._run_code"),
    "pip": (stack_global(short("pip"), short("main")) + CALL, "pip.main"),
    "pip, deeper": (stack_global(short("pip._internal.cli.main"), short("main")) + CALL, "pip._internal.cli.main.main"),
    "numpy's ctypes": (stack_global(short("numpy.ctypeslib"), short("load_library")) + CALL, "numpy.ctypeslib.load_library"),
    "numpy's runstring": (stack_global(short("numpy.testing._private.utils"), short("runstring")) + CALL, "numpy.testing._private.utils.runstring"),
    "numpy's finder of functions": (stack_global(short("numpy._core"), short("_ufunc_reconstruct")) + CALL, "numpy._core._ufunc_reconstruct"),
    "a path of attributes": (stack_global(short("sklearn.base"), short("warnings.sys.modules")) + CALL, "sklearn.base.warnings.sys.modules"),
    "dunder attributes": (stack_global(short("builtins"), short("object.__subclasses__")) + b")R.", "builtins.object.__subclasses__"),
    "timeit": (stack_global(short("timeit"), short("timeit")) + CALL, "timeit.timeit"),
    "pydoc's pipes": (stack_global(short("pydoc"), short("pipepager")) + CALL, "pydoc.pipepager"),
    "a pickle in a pickle": (b"\x80\x04" + stack_global(short("pickle"), short("loads"))[2:] + b"C" + bytes([len(b"cos\nsystem\n(S'id'\ntR.")]) + b"cos\nsystem\n(S'id'\ntR.\x85R.", "os.system"),
    "pandas": (stack_global(short("pandas"), short("read_pickle")) + CALL, "pandas.read_pickle"),
    "joblib": (stack_global(short("joblib"), short("load")) + CALL, "joblib.load"),
    "cloudpickle's functions": (cloudpickle.dumps(lambda x: x), "cloudpickle.cloudpickle._make_function"),
    "attrgetter": (stack_global(short("operator"), short("attrgetter")) + CALL, "operator.attrgetter"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_an_attack_imports_is_found_and_dangerous(name: str) -> None:
    content, wanted = ATTACKS[name]
    asked = set()

    class Asking(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            asked.add(f"{module}.{name}")
            return type(
                "Called", (), {"__new__": lambda cls, *args, **more: object.__new__(cls), "__init__": lambda self, *args: None}
            )

    with contextlib.suppress(TypeError):  # cloudpickle calls what a call has returned
        Asking(io.BytesIO(content)).load()  # it would work
    assert asked
    assert told(content)[wanted] == DANGEROUS
    assert asked <= set(told(content)) | {"commands.getoutput", "__builtin__.eval"}
    assert wanted in STRICT.misfits("pickle", contents_of(content, "pickle"))
    package = wanted.partition(".")[0]
    assert wanted in Policy((f"{package}.*",)).misfits("pickle", contents_of(content, "pickle"))


def test_a_chain_of_getattr_is_told() -> None:
    content = (
        b"\x80\x04" + stack_global(short("builtins"), short("getattr"))[2:] + stack_global(short("collections"), short("OrderedDict"))[2:]
        + short("move_to_end") + b"\x86R" + short("id") + b"\x85R."
    )  # fmt: skip
    found = told(content)
    assert found["builtins.getattr"] == DANGEROUS and found["calls what a call has returned"] == UNTOLD
    assert found["collections.OrderedDict"] == HARMLESS


def test_what_stands_across_the_end_of_a_frame_cannot_be_told() -> None:
    """C's unpickler, reading a file, drops the part of a line that is in the frame: it would import os.system here."""
    head = b"\x80\x04" + b"\x95" + struct.pack("<Q", len("cos\nget_")) + b"cos\nget_"
    content = head + b"system\n(S'id'\ntR."
    assert any("frame" in text and verdict == UNTOLD for text, verdict in told(content).items())
    assert STRICT.misfits("pickle", contents_of(content, "pickle"))
    assert any(
        "frame" in text
        for text in told(b"\x95" + struct.pack("<Q", 20) + b"N0" + b"\x95" + struct.pack("<Q", 3) + b"NNN" + b"N" * 9)
    )


def test_a_computed_name_cannot_be_told() -> None:
    joined = b"\x80\x04" + stack_global(short("builtins"), short("str"))[2:] + short("os") + b"\x85R"
    found = told(joined + short("system") + b"\x93" + CALL)
    assert UNTOLD in found.values() and any("computes" in text and "system" in text for text in found)
    assert STRICT.misfits("pickle", contents_of(joined + short("system") + b"\x93" + CALL, "pickle"))


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x01", b"\x84\x01\x01\x01\x01"])
def test_a_registered_number_cannot_be_told(code: bytes) -> None:
    assert UNTOLD in told(b"\x80\x02" + code + b".").values()


def test_changing_what_is_imported_is_dangerous() -> None:
    klass = stack_global(short("collections"), short("OrderedDict"))
    assert (
        told(klass + b"}" + short("get") + b"K\x01s" + b"b.")["sets attributes of what it imports: collections.OrderedDict"]
        == DANGEROUS
    )
    assert told(klass + short("get") + b"K\x01s.")["changes what it imports: collections.OrderedDict"] == DANGEROUS


def test_calls_are_counted() -> None:
    found = {
        one.name: one.calls
        for one in walk(
            b"\x80\x04" + b"".join(stack_global(short("datetime"), short("date"))[2:] + b")R0" for _ in range(3)) + b"N."
        )
    }
    assert found == {"date": 3}
    assert [one.calls for one in walk(pickle.dumps(StandardScaler)) if one.name == "StandardScaler"] == [0]


DATA, TARGET = load_iris(return_X_y=True, as_frame=True)
MODELS = [
    make_pipeline(ColumnTransformer([("s", StandardScaler(), [0, 1]), ("o", OneHotEncoder(), [2])]), LogisticRegression()),
    RandomForestClassifier(3, random_state=1), HistGradientBoostingClassifier(max_iter=3), GradientBoostingClassifier(n_estimators=3),
    KNeighborsClassifier(), SGDClassifier(),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_ordinary_models_are_harmless_in_every_protocol(model: Any, protocol: int) -> None:
    content = pickle.dumps(model.fit(DATA, TARGET), protocol=protocol)
    found = told(content)
    assert set(found.values()) == {HARMLESS}, {name: verdict for name, verdict in found.items() if verdict != HARMLESS}
    assert not STRICT.misfits("pickle", contents_of(content, "pickle"))
    loaded = set()

    class Watching(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            loaded.add(f"{module}.{name}")
            return super().find_class(module, name)

    Watching(io.BytesIO(content)).load()
    assert {name.replace("copy_reg.", "copyreg.").replace("__builtin__.", "builtins.") for name in loaded} <= set(found)


def test_a_function_of_its_own_is_dangerous_and_a_partial_unknown() -> None:
    assert DANGEROUS in told(cloudpickle.dumps(make_pipeline(FunctionTransformer(lambda x: x)))).values()
    assert told(pickle.dumps(functools.partial(len, "x")))["functools.partial"] == UNKNOWN


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress, bz2.compress, lzma.compress], ids=["zlib", "gzip", "bz2", "xz"])
def test_a_compressed_pickle_is_told_as_what_it_is(pack: Any) -> None:
    found = told(pack(b"cos\nsystem\n(S'id'\ntR."))
    assert found["os.system"] == DANGEROUS
    assert any("-compressed" in text for text in found)


def test_joblibs_own_format_is_told_as_what_it_is() -> None:
    file = io.BytesIO()
    joblib.dump({"a": numpy.arange(1000.0)}, file)
    found = told(file.getvalue())
    assert any("joblib" in text and verdict == UNTOLD for text, verdict in found.items())


def test_what_only_looks_compressed_is_walked() -> None:
    assert told(b"BZh\x00\x00" + b"x" * 0x685A + b"0cos\nsystem\n(S'id'\ntR.")["os.system"] == DANGEROUS


def test_what_is_cut_short_or_no_pickle_cannot_be_told() -> None:
    whole = pickle.dumps(MODELS[1].fit(DATA, TARGET))
    for end in (0, 1, 2, 10, 100, len(whole) // 2, len(whole) - 1):
        assert UNTOLD in told(whole[:end]).values(), end
    for nonsense in (
        b"no pickle",
        b"\x00",
        b"\xff" * 100,
        b"PK\x03\x04",
        b".",
        b"0.",
        b"(1",
        b"\x80\x09N.",
        b"h\x05.",
        b"e.",
        b"X\xff\xff\xff\xff",
    ):
        assert UNTOLD in told(nonsense).values(), nonsense
    assert told(whole + b"more")["4 bytes follow its end, which pickle.loads does not read"] == UNKNOWN


@pytest.mark.parametrize(
    "content",
    [
        b"N" * 500_000 + b".", b"(" * 500_000, b"N" + b"2" * 500_000 + b".", b"N" + b"\x94" * 500_000 + b".",
        b"(" * 400_000 + b"1" * 400_000 + b"N.", b"".join(b"c" + b"m%d" % i + b"\nn\n" for i in range(50_000)) + b".",
        b"\x8d" + struct.pack("<Q", 1 << 60), b"\x8a\xff", b"L" + b"9" * 500_000 + b"L\n.", b"p" + b"1" * 1000 + b"\n.",
        zlib.compress(b"\x00" * (1 << 25)), b"\x80\x04" + b"B" + struct.pack("<I", 1 << 20) + b"\x80\x04" * (1 << 19) + b".",
    ],
    ids=range(12),
)  # fmt: skip
def test_hostile_bytes_take_bounded_time(content: bytes) -> None:
    began = time.monotonic()
    walk(content, Limits(opcodes=1_000_000, names=1000, entries=300_000, unpacked=1 << 24))
    assert time.monotonic() - began < 20  # on an idle machine each takes less than one


def test_a_walk_ends_at_its_limits() -> None:
    assert any("opcodes" in text for text in told(b"N" * 100, opcodes=50))
    assert any("entries" in text for text in told(b"N" * 100, entries=50))
    assert any("names" in text for text in told(b"".join(b"cm%d\nn\n" % i for i in range(100)) + b".", names=50))


def test_a_package_is_allowed_but_not_what_is_dangerous_in_it() -> None:
    policy = Policy(("mine.*", "other.module.Thing"))
    assert policy.allows("mine.models", "Model") and policy.allows("mine", "Model") and policy.allows("other.module", "Thing")
    assert not policy.allows("miner", "Model") and not policy.allows("other.module", "Other")
    assert not policy.allows("mine.models", "os.system") and not Policy(("os.*",)).allows("os", "system")
    assert Policy(("os.system",)).allows("os", "system")  # whoever names it means it


def test_the_estimators_are_those_of_scikit_learn() -> None:
    from sklearn.utils import all_estimators

    missing = {name for name, cls in all_estimators() if cls.__module__.startswith("sklearn.")} - ESTIMATORS
    assert not missing
    assert verdict_of("sklearn.linear_model._ridge", "Ridge") == HARMLESS and verdict_of("mine", "Ridge") == UNKNOWN
