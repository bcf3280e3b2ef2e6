"""Cards of papers, equations, notebooks and settings: what is known before anything is computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsnc_core.runs.spec import RunSpec
    from lsnc_core.show import Entries, Table


@dataclass(frozen=True)
class Equation:
    """Where a numbered equation of a paper is computed and used.

    Attributes:
        number: e.g. "Chen eq. 14", the one spelling used everywhere.
        content: what it states.
        function: dotted path of the function that computes it, after "lsnc_core.".
        figures, claims: names of the figures and ids of the claims that rest on it.
    """

    number: str
    content: str
    function: str
    figures: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """A folder of `papers`.

    Attributes:
        name: as verdicts cite it, e.g. "Chen, Ziyin et al. 2020".
        short: as tables cite it, e.g. "Chen et al. 2020".
        position: its place in the reading order.
        pages: names of its notebooks, each also a module of the folder, in reading order.
        arxiv: identifier; "" for a folder that stands for no paper.
        equations: its numbered equations.
        claim_names: a name of at most 50 characters for each claim that its notebooks decide, for
            lists and plots.
        headline: ids of the claims that speak for the paper, the first one above all.
        figure: name of the figure that does.
    """

    name: str
    short: str
    position: int
    pages: tuple[str, ...]
    arxiv: str = ""
    equations: tuple[Equation, ...] = ()
    claim_names: Mapping[str, str] = field(default_factory=dict, hash=False)
    headline: tuple[str, ...] = ()
    figure: str = ""


@dataclass(frozen=True)
class Page:
    """A notebook.

    Attributes:
        title: its title in lists.
        section: the paper's section or theorem; "" if there is none.
        shows: what it shows beside the figures and claims of its module, which are listed anyway.
        minutes: minutes of a first run by profile, training included, on 2 CPU cores.
        outputs: for each type of output that this notebook alone has, what makes HTML of its data;
            it raises UsageError for data that the notebook never makes.
    """

    title: str
    section: str = ""
    shows: str = ""
    minutes: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Deviation:
    """A setting in which the networks of a profile differ from a paper's.

    Attributes:
        setting: e.g. "epochs".
        paper: as published, in words.
        here: the values of the profile's networks, in words.
        reason: why they differ.
        profile: which profile.
    """

    setting: str
    paper: str
    here: str
    reason: str
    profile: str

    def to_dict(self) -> dict[str, str]:
        """All attributes by name."""
        return asdict(self)


@dataclass(frozen=True)
class Problem:
    """An error of a paper, or of what its authors released.

    Attributes:
        place: where it stands.
        published: what is printed or released, in LaTeX or plain words.
        right: what is right, or what is done here.
        check: numbers computed here from both; "" where none are needed.
        notebook: the notebook that shows it.
    """

    place: str
    published: str
    right: str
    check: str = ""
    notebook: str = ""


def tabulate_deviations(listed: Sequence[Deviation]) -> "Table":
    """Deviations as a table, a row each."""
    from lsnc_core.show import Table

    rows = [(row.setting, row.paper, row.here, row.reason) for row in listed]
    return Table(["setting", "the paper", "here", "why"], rows)


def list_released(problems: Sequence[Problem]) -> "Entries":
    """Problems of what was released as a list, what is computed here behind what is done here."""
    from lsnc_core.show import Entries

    entries = []
    for problem in problems:
        here = " ".join(filter(None, [problem.right, problem.check]))
        entries.append((problem.place, (problem.published, here)))
    return Entries(["released", "here"], entries)


@dataclass(frozen=True)
class Setting:
    """A setting of a paper's experiments, to be compared with the networks here.

    Attributes:
        name, paper, reason: as of `Deviation`.
        fields: the fields of `RunSpec` that hold it; none for what no field holds.
        wanted: the paper's value by image set, "" for all others; `ANY` where nothing is stated.
        grid: instead of `wanted`, values that the paper has on an image set; more here are no
            deviation.
        read: a network's value, a number or a text, by default that of the first field; None is
            left out.
        here: in words by profile, of what no field holds; other profiles do not deviate.
    """

    name: str
    paper: str
    reason: str
    fields: tuple[str, ...] = ()
    wanted: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, tuple] = field(default_factory=dict)
    read: "Callable[[RunSpec], Any] | None" = None
    here: Mapping[str, str] = field(default_factory=dict)

    def compare(self, profile: str, specs: "Sequence[RunSpec]") -> Deviation | None:
        """The deviation of a profile with these networks; None where there is none."""
        here = self._describe(specs) if self.fields else self.here.get(profile, "")
        return Deviation(self.name, self.paper, here, self.reason, profile) if here else None

    def is_tried(self, specs: "Sequence[RunSpec]") -> bool:
        """Whether the paper states a value on any image set of these networks."""
        if not self.fields:
            return False
        stated = self.grid or self.wanted
        return any(stated.get(spec.data, stated[""]) is not ANY for spec in specs)

    def _describe(self, specs: "Sequence[RunSpec]") -> str:
        """The values that deviate, by image set where they are not the same; "" where none does."""
        by_data: dict[str, list] = {}
        for spec in specs:
            data = "" if self.fields == ("data",) else spec.data
            by_data.setdefault(data, []).append(self._value(spec))
        from lsnc_core.data_sources import label_of  # with numpy, which --help does without

        texts = {}
        for data, values in by_data.items():
            apart = self._apart(data, values)
            if self.fields == ("data",):
                apart = [label_of(name) for name in apart]
            texts[data] = describe_values(apart)
        words = [f"{text} ({data})" for data, text in texts.items() if text]
        same = len(set(texts.values())) == 1
        return next(iter(texts.values())) if same else "; ".join(words)

    def _value(self, spec: "RunSpec") -> Any:
        return self.read(spec) if self.read is not None else getattr(spec, self.fields[0])

    def _apart(self, data: str, values: Sequence[Any]) -> list[Any]:
        """The values on one image set that the paper does not have, or all of a grid that lacks one
        of the paper's.
        """
        if self.grid:
            lacks = set(self.grid.get(data, self.grid[""])) - set(values)
            return [value for value in values if value is not None] if lacks else []
        wanted = self.wanted.get(data, self.wanted[""])
        return [] if wanted is ANY else [value for value in values if value != wanted]


ANY = object()
# why batches are smaller here, of every paper
SMALLER_BATCH = "a smaller batch gives few images more steps an epoch"
_MANY = 8


@dataclass(frozen=True)
class Comparison:
    """The settings of a paper's experiments beside those of a profile's networks.

    Attributes:
        deviations: where they differ.
        alike: the paper's settings that the networks have.
    """

    deviations: tuple[Deviation, ...]
    alike: tuple[Setting, ...]

    @property
    def unstated(self) -> int:
        """How many of `deviations` are choices of ours where the paper states nothing."""
        return sum(row.paper.startswith("not stated") for row in self.deviations)


def compare_settings(
    settings: "Sequence[Setting]", profile: str, specs: "Sequence[RunSpec]"
) -> Comparison:
    """Compare a profile's networks with a paper's settings, in the order of these."""
    deviations, alike = [], []
    for setting in settings:
        deviation = setting.compare(profile, specs)
        if deviation is not None:
            deviations.append(deviation)
        elif setting.is_tried(specs):
            alike.append(setting)
    return Comparison(tuple(deviations), tuple(alike))


def describe_values(values: Sequence[Any]) -> str:
    """Distinct numbers or texts in words; many numbers as a range.

    >>> describe_values([800, 300, 800]), describe_values(["cnn"])
    ('300, 800', 'cnn')
    >>> describe_values([k / 10 for k in range(1, 11)])
    '10 values from 0.1 to 1'
    """
    distinct = sorted(set(values))
    if len(distinct) > _MANY:
        return f"{len(distinct)} values from {_word(distinct[0])} to {_word(distinct[-1])}"
    return ", ".join(map(_word, distinct))


def _word(value: Any) -> str:
    if type(value) is int:
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def name_network(spec: "RunSpec") -> str:
    """A network in words, e.g. "resnet18 of width 64"."""
    widths = ", ".join(map(str, spec.widths))
    return f"{spec.model} of width {widths}" + (", batch norm" if spec.batch_norm else "")


def name_schedule(spec: "RunSpec") -> str:
    """A schedule of the learning rate in words, e.g. "times 0.1 after epochs 150, 350"."""
    steps = ", ".join(map(str, spec.lr_steps))
    return f"times {spec.lr_factor:g} after epochs {steps}" if steps else spec.schedule


def name_pixels(spec: "RunSpec") -> str:
    """What images are standardised by, in words."""
    if not spec.pixel_mean:
        return "of the images used"
    mean, std = (", ".join(map(str, part)) for part in (spec.pixel_mean, spec.pixel_std))
    return f"mean {mean}; deviation {std}"


def plain_settings(*fields: str) -> list[Setting]:
    """Settings of the paper's that are `RunSpec`'s defaults, one for each field."""
    from lsnc_core.runs.spec import RunSpec

    settings = []
    for name in fields:
        usual = getattr(RunSpec, name)
        settings.append(Setting(name, describe_values([usual]), "", (name,), wanted={"": usual}))
    return settings
