"""The cache key: what decides a trained network's numbers, and nothing else.

Two things decide them, beside the spec's own values and the data. One is the code: the engine that
trains, whole, and of losses, label noise, smoothing, models and their initialisation only what the
spec names, with all that it refers to in the package. So another loss, noise or model retrains
nothing. The other is
your own file, where the spec names one.

Code counts by its syntax tree, found without running it. Comments, docstrings, type annotations and
the texts of errors change no number and are left out.
"""

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lsnc_core import custom, label_files, labels
from lsnc_core.errors import UsageError
from lsnc_core.runs.spec import RunSpec, digest

# The modules that train every network.
ENGINE = (
    "images.py",
    "runs/checkpoint.py",
    "runs/denormals.py",
    "runs/fleet.py",
    "runs/graphs.py",
    "runs/measure.py",
    "runs/prepare.py",
    "runs/products.py",
    "runs/replicas.py",
    "runs/sgd.py",
    "runs/stacked_step.py",
    "runs/statistics.py",
)
# Modules that the engine refers to and that are left out: what they do to a number shows in the
# spec's values, in the digests of images and labels or in what a file of your own returns, or they
# do nothing to it.
LEFT_OUT = (
    "custom.py",
    "data.py",
    "errors.py",
    "files.py",
    "label_files.py",
    "provenance.py",
    "runs/spec.py",
)


class Choice(NamedTuple):
    """How the engine picks one of several by name: a function of a module, from a table there."""

    module: str
    function: str
    table: str


# By setting of the spec. There the engine's code is not followed into the table: the entry that
# the spec names is part of the key instead.
CHOICES = {
    "loss": Choice("losses.py", "find", "LOSSES"),
    "noise": Choice("labels.py", "noise_matrix", "NOISES"),
    "smoothing": Choice("labels.py", "smoothed_targets", "SMOOTHINGS"),
    "model": Choice("models.py", "build", "MODELS"),
    "init": Choice("models.py", "initialise", "INITIALISATIONS"),
}
_PACKAGE = "lsnc_core"
_EVERYTHING = "*"
_IGNORED = ("annotation", "returns", "type_comment", "type_params")

Definition = tuple[str, str]  # module, name


def fingerprint(sources: dict[str, str]) -> str:
    """Digest of Python sources by name: of their syntax trees, without what changes no number."""
    return digest([[name, _plain(ast.parse(source))] for name, source in sources.items()])


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    """The fields of a syntax tree's node that can change a number.

    Empty fields are left out because versions of Python differ in them.
    """
    for name, value in ast.iter_fields(node):
        if name == "body" and _has_docstring(node):
            value = value[1:]
        if name == "exc" and isinstance(value, ast.Call):  # of `raise`: the kind of error remains
            value = value.func
        if name not in _IGNORED and value is not None and value != []:
            yield name, value


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return ast.get_docstring(node, clean=False) is not None


def _plain(node: object) -> object:
    """A syntax tree as nested lists of text."""
    if isinstance(node, list):
        return [_plain(entry) for entry in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    return [type(node).__name__, *([name, _plain(value)] for name, value in sorted(_fields(node)))]


def _mentions(node: object) -> Iterator[tuple[str, str]]:
    """The names that a syntax tree refers to: (name, "") or, for `name.attribute`, both."""
    if isinstance(node, list):
        for entry in node:
            yield from _mentions(entry)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        yield node.value.id, node.attr
    elif isinstance(node, ast.Name):
        yield node.id, ""
    elif isinstance(node, ast.AST):
        for _, value in _fields(node):
            yield from _mentions(value)


class _Module:
    """One parsed module.

    Attributes:
        tree: of the whole source.
        definitions: the statements at the top that define each name.
        imports: by local name what is imported: (dotted module, name in it or "").
        star_imports: dotted modules of which everything is imported.
        loose: other statements at the top, which run on import.
    """

    def __init__(self, source: str):
        self.tree = ast.parse(source)
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str]] = {}
        self.star_imports: list[str] = []
        self.loose: list[ast.stmt] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    # `import a.b` binds a
                    module = alias.name if alias.asname else alias.name.partition(".")[0]
                    self.imports[alias.asname or module] = module, ""
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    if alias.name == _EVERYTHING:
                        self.star_imports.append(node.module)
                    else:
                        self.imports[alias.asname or alias.name] = node.module, alias.name
        for statement in self.tree.body[_has_docstring(self.tree) :]:
            self._sort(statement)

    def _sort(self, statement: ast.stmt) -> None:
        """Put one statement of the top level where it belongs."""
        names: Iterable[str] = ()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [statement.name]
        elif isinstance(statement, ast.Assign):
            names = set().union(*map(_base_names, statement.targets))
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
            names = _base_names(statement.target)
        elif isinstance(statement, ast.Import | ast.ImportFrom) or _only_for_types(statement):
            return
        else:
            self.loose.append(statement)
        for name in names:
            self.definitions.setdefault(name, []).append(statement)


def _base_names(target: ast.expr) -> set[str]:
    """The names that an assignment binds or changes: a of `a`, `a.b`, `a[0]`; a and b of `a, b`."""
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _only_for_types(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Name)
        and statement.test.id == "TYPE_CHECKING"
    )


def read_module(name: str) -> str | None:
    """The source of a module of this package ("runs/fleet.py"), None without such a file."""
    path = Path(__file__).resolve().parents[1] / name
    return path.read_text(encoding="utf-8") if path.is_file() else None


class Package:
    """The package's code as syntax trees, and digests of what depends on what.

    Args:
        read: the source of a module by name, None where there is none.
    """

    def __init__(self, read: Callable[[str], str | None] = read_module):
        self._read = read
        self._modules: dict[str, _Module | None] = {}
        self._entries: dict[tuple[str, str], str] = {}

    @functools.cached_property
    def engine(self) -> str:
        """Digest of the engine: its modules, and what they refer to outside the tables."""
        modules: list[object] = []
        start: set[Definition] = set()
        for name in ENGINE:
            tree = self._parsed(name).tree
            modules.append([name, _plain(tree)])
            start |= self._references(name, tree)
        chosen = {
            ((choice.module, choice.function), (choice.module, choice.table))
            for choice in CHOICES.values()
        }
        return digest([modules, self._closure(start, chosen)])

    def entry(self, setting: str, name: str) -> str:
        """Digest of what a setting's table has under a name, with all that it refers to.

        Raises:
            UsageError: when the table, as it stands in the source, has no such name.
        """
        if (setting, name) not in self._entries:
            choice = CHOICES[setting]
            value = self._table(choice).get(name)
            if value is None:
                raise UsageError(
                    f"there is no {setting} {name!r} in the table {choice.table} of "
                    f"{_PACKAGE}/{choice.module}: add it there, or use a file of your own."
                )
            closure = self._closure(self._references(choice.module, value))
            self._entries[setting, name] = digest([_plain(value), closure])
        return self._entries[setting, name]

    def used_by(self, source: str) -> str:
        """Digest of what a source outside the package refers to in it."""
        outside = _Module(source)
        start: set[Definition] = set()
        for name, attribute in _mentions(outside.tree):
            start |= self._resolve(outside, "", name, attribute)
        for dotted in outside.star_imports:
            start |= self._in_module(dotted, _EVERYTHING)
        return digest(self._closure((file, name) for file, name in start if file))

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            source = self._read(name)
            self._modules[name] = None if source is None else _Module(source)
        return self._modules[name]

    def _parsed(self, name: str) -> _Module:
        module = self._module(name)
        if module is None:
            raise FileNotFoundError(f"there is no module {name} in {_PACKAGE}")
        return module

    def _table(self, choice: Choice) -> dict[str, ast.expr]:
        """The entries of a table by name, as they stand in the source."""
        (statement,) = self._parsed(choice.module).definitions[choice.table]
        assert isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
        keys = [ast.literal_eval(key) for key in statement.value.keys if key is not None]
        return dict(zip(keys, statement.value.values, strict=True))

    def _references(self, module_name: str, node: object) -> set[Definition]:
        """The package's definitions that a piece of a module refers to."""
        module = self._parsed(module_name)
        references: set[Definition] = set()
        for name, attribute in _mentions(node):
            references |= self._resolve(module, module_name, name, attribute)
        return references

    def _resolve(
        self, module: _Module, module_name: str, name: str, attribute: str
    ) -> set[Definition]:
        """Where a name in a module is defined, if in the package.

        Scopes are not distinguished: a local variable counts as the definition that has its name.
        """
        places: set[Definition] = set()
        if name in module.definitions:
            places.add((module_name, name))
        if name in module.imports:
            dotted, original = module.imports[name]
            if original and self._file(f"{dotted}.{original}") is None:
                places |= self._in_module(dotted, original)
            else:  # a module: without an attribute it may be used in any way
                module_path = f"{dotted}.{original}".strip(".")
                places |= self._in_module(module_path, attribute or _EVERYTHING)
        return places

    def _in_module(self, dotted: str, name: str) -> set[Definition]:
        """Where `name` of a dotted module is defined, if in the package."""
        file = self._file(dotted)
        if file is None:
            return set()
        module = self._parsed(file)
        if name == _EVERYTHING:
            return {(file, defined) for defined in module.definitions}
        submodule = self._file(f"{dotted}.{name}")
        if name not in module.definitions and submodule is not None:
            return self._in_module(f"{dotted}.{name}", _EVERYTHING)
        return self._resolve(module, file, name, "")

    def _file(self, dotted: str) -> str | None:
        """The file of a dotted module of the package, None where there is none."""
        first, *rest = dotted.split(".")
        if first != _PACKAGE:
            return None
        base = "/".join(rest)
        for candidate in (f"{base}.py", f"{base}/__init__.py".strip("/")):
            if self._module(candidate) is not None:
                return candidate
        return None

    def _closure(
        self, start: Iterable[Definition], cut: Iterable[tuple[Definition, Definition]] = ()
    ) -> list[object]:
        """What definitions refer to, directly or not, as nested lists in a fixed order.

        Args:
            start: the definitions to begin with.
            cut: references, from one definition to another, that are not followed.
        """
        reached: dict[Definition, object] = {}
        waiting, not_followed = list(start), set(cut)
        while waiting:
            place = waiting.pop()
            file, name = place
            if place in reached or file in ENGINE or file in LEFT_OUT:
                continue
            module = self._parsed(file)
            statements = module.definitions[name] if name else module.loose
            reached[place] = [_plain(statement) for statement in statements]
            references = self._references(file, statements)
            references.add((file, ""))  # what runs when the module is imported
            waiting += [other for other in references if (place, other) not in not_followed]
        return [[file, name, trees] for (file, name), trees in sorted(reached.items())]


@functools.cache
def package() -> Package:
    """The package as it is on disk when first asked for."""
    return Package()


def code_of(spec: RunSpec) -> dict[str, str]:
    """Digests of the code that trains a spec, by part; without what files of your own define."""
    parts = {"engine": package().engine}
    for setting in CHOICES:
        name = getattr(spec, setting)
        if not custom.is_file(name) and not label_files.is_label_file(name):
            parts[setting] = package().entry(setting, name)
    return parts


def loss_of_file(path: str, K: int) -> str:
    """Digest of your own loss: its sources, what they use of this package, its values on a probe.

    Args: path of the file; K, number of classes.
    Raises: UsageError, as `probe.probe_loss`.
    """
    from lsnc_core.runs.probe import probe_loss

    values, gradients = probe_loss(path, K)
    used = [
        package().used_by(content.decode("utf-8", "replace"))
        for content in custom.sources(path).values()
    ]
    return digest([custom.checksum(path), used, _of_array(values), _of_array(gradients)])


def noise_of_file(path: str, a: float, K: int) -> str:
    """Digest of your own noise: its matrix, which is all that training uses of it.

    Args: path of the file; a, clean-label rate; K, number of classes.
    Raises: UsageError, as `labels.noise_matrix`, and when two calls return different matrices.
    """
    T, again = labels.noise_matrix(path, a, K), labels.noise_matrix(path, a, K)
    if not np.array_equal(T, again):
        raise UsageError(
            f"noise() of {path} returns another matrix at every call: "
            "draw random numbers from a generator with a seed."
        )
    return _of_array(T)


def noise_of_labels(name: str, image_set: str) -> str:
    """Digest of noisy labels from a file: the labels in the order of the images, and their matrix.

    Args: name, of the labels; image_set, name of the images.
    Raises: UsageError, as `data.given_labels`.
    """
    from lsnc_core import data

    given = data.given_labels(name, image_set)
    return digest([_of_array(given.labels.numpy()), _of_array(given.matrix)])


def _of_array(array: np.ndarray) -> str:
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
