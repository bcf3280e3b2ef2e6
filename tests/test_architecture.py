"""Which room may import which, how long code may be, and that cards, equations and claims are
consistent; read from syntax trees.
"""

import ast
import functools
import graphlib
import importlib
import io
import json
import re
import tokenize
from pathlib import Path

import pytest
from conftest import ROOT

from lsnc_core import papers
from lsnc_core.claims import Claim, claims_in
from lsnc_core.show import cards_in

PACKAGE = ROOT / "lsnc_core"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = {path.stem for path in NOTEBOOKS}

# A room may import the rooms of the lines above its own, and itself.
LAYERS = (
    ("errors", "bootstrap", "defaults"),
    ("files",),
    ("provenance", "custom", "label_files"),
    ("labels", "losses", "models", "images", "data_sources"),
    ("data_readers",),
    ("data", "metrics", "theory"),
    ("runs", "profiles"),
    ("claims", "show", "notebook"),
    ("papers",),
    ("report",),
    ("cli", "__main__"),
)
# These rooms may import only the ones named here.
ONLY = {
    "metrics": {"defaults", "errors", "labels"},
    "theory": {"errors", "labels"},
    "claims": {"errors"},
    "show": {"errors", "files", "claims"},
    "notebook": {"errors", "profiles", "runs"},
}
# What a user of measure_your_model imports.
FOR_USERS = {"lsnc_core.metrics", "lsnc_core.data"}


def name_of(path):
    """A module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


@functools.cache
def tree_of(path):
    """A file's syntax tree; not parsed while tests are collected, which every process does."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree):
    """The modules of this package that a tree imports anywhere in it."""
    targets = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                targets.add(whole if whole in NAMES else node.module)
    return {target for target in targets if target.split(".")[0] == "lsnc_core"}


@functools.cache
def all_imports():
    """What each module imports."""
    return {name_of(path): imports(tree_of(path)) for path in MODULES}


def room(name):
    """The part of the package that a module belongs to; "" is the package itself."""
    return [*name.split("."), ""][1]


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


# imports


def test_every_module_has_a_room():
    rooms = set().union(*LAYERS)
    assert {room(name) for name in NAMES} <= {"", *rooms}


def allowed_in(name):
    """The rooms that a room may import from."""
    below = {""}
    for layer in LAYERS:
        if name in layer:
            break
        below |= set(layer)
    return (ONLY.get(name, below) | {name}) if name else set()


def test_a_room_imports_only_rooms_below_it():
    wrong = []
    for name, targets in all_imports().items():
        allowed = allowed_in(room(name))
        wrong += [(name, target) for target in targets if room(target) not in allowed]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(all_imports()).prepare()


def paper_of(name):
    """The folder of `papers` that a module belongs to; "" for those above the folders."""
    parts = name.split(".")
    return parts[2] if len(parts) > 2 and (PACKAGE / "papers" / parts[2]).is_dir() else ""


def test_a_paper_imports_only_its_own_shared_files():
    wrong = []
    for name in NAMES:
        targets = all_imports()[name] if room(name) == "papers" else ()
        own = paper_of(name)
        for target in targets:
            paper, is_page = paper_of(target), target.split(".")[-1] in PAGES
            # what stands above the folders of `papers` is for every paper
            foreign = paper and paper != own and own not in ("beyond", "companion")
            if is_page or foreign:
                wrong.append((name, target))
    assert wrong == []


def test_the_report_knows_the_papers_through_their_map_alone():
    for name in NAMES:
        if room(name) in ("report", "cli"):
            targets = {target for target in all_imports()[name] if room(target) == "papers"}
            assert targets <= {"lsnc_core.papers"}, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_its_one_module(path):
    modules = [name for name in NAMES if re.fullmatch(rf"lsnc_core\.papers\..*\.{path.stem}", name)]
    assert len(modules) == 1
    allowed = {"lsnc_core.notebook", *modules}
    if path.stem == "measure_your_model":
        allowed |= FOR_USERS
    assert imports(ast.parse("\n".join(cells(path, "code")))) <= allowed


# sizes and names


def test_the_papers_have_a_map_cards_and_stored_tables_above_their_folders():
    assert len(list((PACKAGE / "papers").glob("*.py"))) <= 3


def test_a_module_holds_one_idea():
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 450} == {}


def is_data(function):
    """Whether a function only returns a value: a table of data."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return len(body) == 1 and isinstance(body[0], ast.Return)


def functions(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_a_function_holds_one_idea_and_is_no_value():
    long, values = [], []
    for path in MODULES:
        for function in functions(path):
            place = (name_of(path), function.name)
            if function.end_lineno - function.lineno >= 75 and not is_data(function):
                long.append(place)
            given = function.args
            names = {argument.arg for argument in given.args + given.posonlyargs + given.kwonlyargs}
            # a method may be called table: `CollapseHistory.table()` reads like a verb would
            if function.name in names | (set() if "self" in names else {"table"}):
                values.append(place)
    assert (long, values) == ([], [])


COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def comprehensions(path):
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, COMPREHENSIONS)]


def test_a_comprehension_has_one_level():
    deep = []
    for path in SOURCES:
        for node in comprehensions(path):
            inside = [inner for inner in ast.walk(node) if isinstance(inner, COMPREHENSIONS)]
            if len(inside) > 1 or len(node.generators) > 1:
                deep.append((path.relative_to(ROOT).as_posix(), node.lineno))
    assert deep == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin(path):
    code = cells(path, "code")
    lines = [line for line in "\n".join(code).splitlines() if line.strip()]
    statements = [line for line in lines if not line.strip().startswith("#")]
    assert len(statements) <= (150 if path.stem == "measure_your_model" else 100)
    assert max(map(len, lines)) <= 140
    assert max(len(source.splitlines()) for source in code) <= 40
    assert len([line for line in lines if re.match(r"\s*(async )?def ", line)]) <= 2


# equations


def resolve(function):
    """The object of a dotted path after "lsnc_core."."""
    parts = ["lsnc_core", *function.split(".")]
    for length in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:length]) in NAMES:
            value = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                value = getattr(value, part)
            return value
    raise AssertionError(f"there is no module of {function}")


NUMBER = r"[0-9A-Z][0-9A-Z.]*\b"
CITATION = re.compile(rf"(Chen|Guo|Zhou) eq\.\s+({NUMBER}(?:(?:, | and | to ){NUMBER})*)")
ODD = re.compile(
    r"\b[Ee]qs\b|\bEq\.|\beq\.\s*\(|\beq \d|\b[Ee]quations? \(?\d"
    r"|(?<!Chen )(?<!Chen\n)(?<!Guo )(?<!Guo\n)(?<!Zhou )(?<!Zhou\n)\beq\.\s*\d"
)


def cited(text):
    """The equations that a text cites: "Chen eq. 7, 8" cites "Chen eq. 7" and "Chen eq. 8"."""
    equations = set()
    for paper, numbers in CITATION.findall(" ".join(text.split())):
        expanded = re.sub(
            r"(\d+) to (\d+)",
            lambda ends: ", ".join(map(str, range(int(ends[1]), int(ends[2]) + 1))),
            numbers,
        )
        equations |= {f"{paper} eq. {number}" for number in re.findall(NUMBER, expanded)}
    return equations


def test_citations_of_several_equations_are_read():
    assert cited("see Chen eq. 7 to 9 and 11, Guo eq. 4.") == {
        *("Chen eq. 7", "Chen eq. 8", "Chen eq. 9", "Chen eq. 11", "Guo eq. 4")
    }
    assert ODD.search("eqs. 4") and ODD.search("see eq. 4") and ODD.search("equation 4")
    assert not ODD.search("Chen eq. 4") and not ODD.search("the equations of Chen")


EQUATIONS = list(papers.equations())


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda one: f"{one.number} {one.function}")
def test_an_equation_has_its_function_figures_and_claims(equation):
    documentation = resolve(equation.function).__doc__
    if " eq. " in equation.number:
        assert equation.number in cited(documentation)
    entries = papers.entries()
    figures, claims = set(), set()
    for entry in entries:
        figures |= {card.name for card in cards_in(entry.module)}
        claims |= set(entry.claims)
    assert set(equation.figures) <= figures and set(equation.claims) <= claims


def prose(path):
    """The docstrings and comments of a module, with their lines."""
    for node in ast.walk(tree_of(path)):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node):
            yield node.body[0].lineno, ast.get_docstring(node)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_equations_are_spelled_one_way_in_the_package():
    odd = []
    for path in MODULES:
        for line, text in prose(path):
            if match := ODD.search(text):
                odd.append((name_of(path), line, match[0]))
    assert odd == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_equations_are_spelled_one_way_in_notebooks(path):
    odd = [match[0] for text in cells(path, "markdown") if (match := ODD.search(text))]
    assert odd == []


# cards


def test_the_readme_has_the_map_of_the_notebooks():
    assert papers.readme_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def constants(folder):
    """The claims that are constants of a paper's shared files."""
    shared = set()
    for path in Path(folder).glob("*.py"):
        if path.stem not in PAGES:
            module = importlib.import_module(name_of(path))
            shared |= {value for value in vars(module).values() if isinstance(value, Claim)}
    return shared


def test_a_claim_has_one_id_and_is_decided_in_one_place():
    """But for constants of a paper's shared files, which several of its pages may decide."""
    decided = {}
    for entry in papers.entries():
        for claim in claims_in(entry.module):
            decided.setdefault(claim.id, []).append((claim, entry.module))
    assert len(decided) > 30
    for name, places in decided.items():
        assert len({claim for claim, _ in places}) == 1, f"several claims are called {name}"
        if len(places) > 1:
            folders = {Path(module.__file__).parent for _, module in places}
            assert len(folders) == 1, f"{name} is decided for several papers"
            assert places[0][0] in constants(*folders), f"{name} is no shared constant"


@pytest.mark.parametrize("paper", papers.papers(), ids=lambda paper: paper.short)
def test_a_card_names_each_claim_of_its_pages_in_a_few_words(paper):
    decided, drawn = set(), set()
    for entry in papers.entries():
        if entry.paper == paper:
            decided |= {claim.id for claim in claims_in(entry.module)}
            drawn |= {card.name for card in cards_in(entry.module)}
    assert set(paper.claim_names) == decided
    assert all(0 < len(name.strip()) == len(name) <= 50 for name in paper.claim_names.values())
    assert set(paper.headline) <= decided and bool(paper.headline) == bool(decided)
    assert paper.figure in drawn or not decided


def test_no_two_claims_have_one_name():
    names = papers.claim_names()
    assert len(set(names.values())) == len(names) >= 50
