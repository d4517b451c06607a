"""Verdicts: what is known of the things that a pickle may import.

    harmless   makes a value of its arguments and does nothing else
    dangerous  runs code, reaches files, processes or the network, or finds any attribute of anything
    unknown    the rest: ordinary classes of packages, which have whatever their __init__ and __setstate__ do

What is listed as dangerous is what an attack would use, not all that could be; a policy therefore works by what it
allows.  Knows names alone, and imports none of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from dbml.formats.estimators import ESTIMATORS

HARMLESS, DANGEROUS, UNKNOWN = "harmless", "dangerous", "unknown"
UNTOLD = "cannot be told"  # the name is computed when it is loaded, or the bytes end before they should
TRUSTED, UNTRUSTED = "trusted", "untrusted"  # of a safe file: by skops, and by what dbml checks itself


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HARMLESS = {
    "builtins": "bool int float complex str bytes bytearray list dict tuple set frozenset slice range object Ellipsis"
    " NotImplemented ArithmeticError Exception KeyError RuntimeError TypeError UserWarning ValueError Warning",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "__newobj__ __newobj_ex__ _reconstructor",
    "_codecs": "encode",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "types": "SimpleNamespace",
    "array": "_array_reconstructor array",
    "zoneinfo": "ZoneInfo._unpickle",
    "numpy": "dtype ndarray bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp float16 float32 float64"
    " complex64 complex128 str_ bytes_ object_ datetime64 timedelta64 void number integer floating",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.numeric": "_frombuffer",
    "numpy.core.numeric": "_frombuffer",
    "numpy.ma.core": "MaskedArray _mareconstruct",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "numpy.random._mt19937": "MT19937 __pyx_unpickle_MT19937",
    "numpy.random._pcg64": "PCG64 __pyx_unpickle_PCG64",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "numpy.random.mtrand": "RandomState",
    "numpy.random._generator": "Generator",
    "scipy.sparse._csr": "csr_array csr_matrix",
    "scipy.sparse._csc": "csc_array csc_matrix",
    "scipy.sparse._coo": "coo_array coo_matrix",
    "pandas": "DataFrame Index Series",
    "pandas.core.frame": "DataFrame",
    "pandas.core.series": "Series",
    "pandas.core.indexes.base": "Index _new_Index",
    "pandas.core.indexes.range": "RangeIndex",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas._libs.internals": "_unpickle_block",
    "sklearn.tree._tree": "Tree",
    "sklearn.neighbors._kd_tree": "KDTree KDTree64 KDTree32 newObj",
    "sklearn.neighbors._ball_tree": "BallTree BallTree64 BallTree32 newObj",
    "sklearn.metrics._dist_metrics": "newObj EuclideanDistance64 EuclideanDistance MinkowskiDistance64",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn._loss._loss": " ".join(
        f"Cy{loss} __pyx_unpickle_Cy{loss}"
        for loss in (
            "AbsoluteError",
            "ExponentialLoss",
            "HalfBinomialLoss",
            "HalfGammaLoss",
            "HalfMultinomialLoss",
            "HalfPoissonLoss",
            "HalfSquaredError",
            "HalfTweedieLoss",
            "HalfTweedieLossIdentity",
            "HuberLoss",
            "PinballLoss",
        )
    ),
    "sklearn.linear_model._sgd_fast": "EpsilonInsensitive Hinge Huber Log ModifiedHuber SquaredEpsilonInsensitive SquaredHinge"
    " SquaredLoss",
    "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogitLink LogLink MultinomialLogit",
    "sklearn._loss.loss": "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss"
    " HalfSquaredError HuberLoss PinballLoss",
    "sklearn.utils.deprecation": "_Deprecated",
}
HARMLESS_NAMES = frozenset(f"{module}.{name}" for module, names in _HARMLESS.items() for name in names.split())

_DANGEROUS_MODULES = _words(
    "os posix nt subprocess _posixsubprocess sys _sys socket _socket socketserver shutil pty runpy importlib imp code codeop pdb"
    " bdb ctypes _ctypes cffi _cffi_backend multiprocessing _multiprocessing concurrent asyncio threading _thread signal _signal"
    " webbrowser http httplib urllib urllib2 urllib3 requests httpx ftplib smtplib poplib imaplib nntplib telnetlib xmlrpc ssl"
    " pickle _pickle cPickle pickletools cloudpickle dill marshal shelve dbm sqlite3 psycopg psycopg_binary pip setuptools"
    " distutils pkg_resources ensurepip venv site pydoc timeit trace tracemalloc profile cProfile pstats doctest unittest test"
    " pytest _pytest idlelib lib2to3 tkinter turtle zipimport pkgutil zipapp inspect gc tempfile glob pathlib fileinput io _io"
    " _pyio linecache tarfile zipfile select selectors mmap fcntl resource syslog platform commands popen2 faulthandler atexit"
    " operator _operator compileall py_compile rlcompleter readline cmd curses getpass pwd grp crypt spwd"
    " logging sched uu xml wsgiref cgi cgitb bottle flask werkzeug jinja2 mako sqlalchemy alembic dbml typer click"
    " sh fabric paramiko plumbum pexpect torch.hub torch.jit torch.serialization torch.utils numpy.ctypeslib numpy.f2py"
    " numpy.testing numpy.distutils numpy.lib.npyio numpy.lib._npyio_impl numpy.lib.format pandas.io pandas.core.computation"
    " pandas.compat joblib skops sklearn.datasets sklearn.utils._testing sklearn.externals scipy.io scipy.datasets scipy._lib"
    " matplotlib.testing IPython jupyter notebook numba llvmlite types"
)
_DANGEROUS = {
    "builtins": "eval exec compile __import__ getattr setattr delattr hasattr open input breakpoint globals locals vars dir help"
    " map filter apply execfile file print type super classmethod staticmethod property memoryview exit quit reload",
    "functools": "reduce partialmethod singledispatch",
    "itertools": "starmap",
    "numpy": "load loads fromfile memmap loadtxt genfromtxt save savez savez_compressed savetxt fromregex fromiter vectorize"
    " frompyfunc apply_along_axis",
    "numpy._core": "_ufunc_reconstruct",
    "numpy.core": "_ufunc_reconstruct",
    "numpy._core.memmap": "memmap",
    "numpy._core.multiarray": "fromfile",
    "numpy.core.multiarray": "fromfile",
    "pandas": "read_pickle eval read_csv read_json read_html read_sql read_hdf read_parquet read_excel read_table read_xml",
    "torch": "load hub jit",
    "copyreg": "pickle add_extension remove_extension constructor",
    "zoneinfo": "reset_tzpath",
    "_codecs": "register open lookup",
    "codecs": "register open lookup EncodedFile",
}
DANGEROUS_NAMES = frozenset(f"{module}.{name}" for module, names in _DANGEROUS.items() for name in names.split())


def verdict_of(module: str, name: str) -> str:
    """Return what is known of a name that is imported from a module: harmless, dangerous or unknown.

    name may be a path of attributes, as protocol 4 has it.
    """
    full = f"{module}.{name}"
    if full in HARMLESS_NAMES:
        return HARMLESS
    if full in DANGEROUS_NAMES or any(prefix in _DANGEROUS_MODULES for prefix in _prefixes(module)):
        return DANGEROUS
    parts = name.split(".")
    if len(parts) > 1 and any(part in _DANGEROUS_MODULES or part == "builtins" for part in parts):
        return DANGEROUS
    if any(part.startswith("__") and part.endswith("__") for part in (*module.split("."), *parts)):
        return DANGEROUS
    if module.startswith("sklearn.") and name in ESTIMATORS:
        return HARMLESS
    return UNKNOWN


def _prefixes(module: str) -> Iterable[str]:
    parts = module.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
