"""The bibliography: the three papers, and every other source that the package or a notebook names.

A field is empty where this project has not seen it. Tests compare the list with the citations in
docstrings and comments.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One publication.

    Attributes:
        key: how docstrings cite it, e.g. "Holm 1979".
        authors: surnames, as docstrings order them.
        title, venue: as published; "" where not known.
        year: of publication.
        arxiv, doi: identifiers, "" for none.
        use: what is taken from it here.
        modules: the modules and notebooks that name it.
        paper: whether it is one of the three papers.
    """

    key: str
    authors: str
    year: int
    use: str
    modules: tuple[str, ...]
    title: str = ""
    venue: str = ""
    arxiv: str = ""
    doi: str = ""
    paper: bool = False

    @property
    def named_in(self) -> tuple[str, ...]:
        """Its modules and notebooks, each once: a notebook and its module share a name."""
        return tuple({module.split(".")[-1]: module for module in self.modules}.values())

    @property
    def anchor(self) -> str:
        """Its address in the bibliography, e.g. "holm-1979"."""
        return "".join(c if c.isalnum() else "-" for c in self.key.lower()).replace("--", "-")


SOURCES = (
    Source(
        "Chen et al. 2020",
        "Blair Chen, Liu Ziyin, Zihao Wang, Paul Pu Liang",
        2020,
        "How much smoothing is best when labels are wrong.",
        ("theory.label_noise", "papers.chen"),
        title="An Investigation of how Label Smoothing Affects Generalization",
        arxiv="2010.12648",
        paper=True,
    ),
    Source(
        "Guo et al. 2025",
        "Li Guo, George Andriopoulos, Zifan Zhao, Zixuan Dong, Shuyang Ling, Keith Ross",
        2025,
        "Cross-entropy against label smoothing, seen through neural collapse.",
        ("metrics.calibration", "papers.guo"),
        title="Cross Entropy versus Label Smoothing: A Neural Collapse Perspective",
        venue="Transactions on Machine Learning Research",
        arxiv="2402.03979",
        paper=True,
    ),
    Source(
        "Zhou et al. 2022",
        "Jinxin Zhou, Chong You, Xiao Li, Kangning Liu, Sheng Liu, Qing Qu, Zhihui Zhu",
        2022,
        "Four losses, one geometry, equal accuracy.",
        ("losses", "metrics.collapse", "papers.zhou"),
        title="Are All Losses Created Equal: A Neural Collapse Perspective",
        venue="Advances in Neural Information Processing Systems 35",
        arxiv="2210.02192",
        paper=True,
    ),
    Source(
        "Berger 1982",
        "Berger",
        1982,
        "The intersection-union test: a claim about every case holds if each case does.",
        ("claims.case",),
        title="Multiparameter Hypothesis Testing and Acceptance Sampling",
        venue="Technometrics 24(4)",
    ),
    Source(
        "Bonett and Wright 2000",
        "Bonett, Wright",
        2000,
        "The interval of a rank correlation.",
        ("claims.intervals",),
        title="Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
        venue="Psychometrika 65(1)",
        doi="10.1007/BF02294183",
    ),
    Source(
        "Brier 1950",
        "Brier",
        1950,
        "The Brier score.",
        ("metrics.calibration",),
        title="Verification of Forecasts Expressed in Terms of Probability",
        venue="Monthly Weather Review 78(1)",
    ),
    Source(
        "Chan, Golub and LeVeque 1979",
        "Chan, Golub, LeVeque",
        1979,
        "Merging means and scatter of two sets of samples.",
        ("runs.statistics",),
        title="Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    ),
    Source(
        "Chan, Golub and LeVeque 1983",
        "Chan, Golub, LeVeque",
        1983,
        "Merging means and scatter of two sets of samples.",
        ("metrics.accumulator",),
        title="Algorithms for Computing the Sample Variance: Analysis and Recommendations",
        venue="The American Statistician 37(3)",
        doi="10.1080/00031305.1983.10483115",
    ),
    Source(
        "Chorowski and Jaitly 2017",
        "Chorowski, Jaitly",
        2017,
        "A row of Chen's Table 1, quoted.",
        ("papers.chen.chen_4_loss_and_accuracy",),
        title="Towards Better Decoding and Language Model Integration in "
        "Sequence to Sequence Models",
    ),
    Source(
        "Fieller 1954",
        "Fieller",
        1954,
        "Intervals of ratios and minima by inverting a test.",
        ("claims.intervals",),
        title="Some problems in interval estimation",
        venue="Journal of the Royal Statistical Society, Series B 16(2)",
    ),
    Source(
        "Galanti, György and Hutter 2022",
        "Galanti, György, Hutter",
        2022,
        "NC1 as class-distance normalised variance.",
        ("metrics.collapse",),
        title="On the Role of Neural Collapse in Transfer Learning",
        arxiv="2112.15121",
    ),
    Source(
        "Geifman and El-Yaniv 2017",
        "Geifman, El-Yaniv",
        2017,
        "The risk-coverage curve and the area under it.",
        ("metrics.selective",),
        title="Selective Classification for Deep Neural Networks",
        venue="Advances in Neural Information Processing Systems 30",
        arxiv="1705.08500",
    ),
    Source(
        "Guo, Pleiss et al. 2017",
        "Guo, Pleiss, Sun, Weinberger",
        2017,
        "Temperature scaling by likelihood.",
        ("metrics.calibration",),
        title="On Calibration of Modern Neural Networks",
        venue="ICML 2017",
        arxiv="1706.04599",
    ),
    Source(
        "Hesterberg 2015",
        "Hesterberg",
        2015,
        "The expanded percentile interval, for minima.",
        ("claims.intervals", "benchmarks.coverage"),
        title="What teachers should know about the bootstrap",
        venue="The American Statistician 69(4)",
    ),
    Source(
        "Graham 1969",
        "Graham",
        1969,
        "How evenly the largest first spreads work.",
        ("runs.shards",),
        title="Bounds on multiprocessing timing anomalies",
        venue="SIAM Journal on Applied Mathematics 17(2)",
    ),
    Source(
        "Holm 1979",
        "Holm",
        1979,
        "Several cases of one claim share its 5 %.",
        ("claims.case",),
        title="A Simple Sequentially Rejective Multiple Test Procedure",
        venue="Scandinavian Journal of Statistics 6",
    ),
    Source(
        "Korn and Graubard 1998",
        "Korn, Graubard",
        1998,
        "Clopper and Pearson's interval at an effective number of samples.",
        ("metrics.intervals",),
        title="Confidence Intervals for Proportions with Small Expected "
        "Number of Positive Counts Estimated from Survey Data",
    ),
    Source(
        "Kott 2001",
        "Kott",
        2001,
        "The extended delete-a-group jackknife.",
        ("metrics.replicates",),
        title="The Delete-a-Group Jackknife",
        venue="Journal of Official Statistics 17(4)",
    ),
    Source(
        "Kull et al. 2019",
        "Kull, Perello-Nieto, Kängsepp, Silva Filho, Song, Flach",
        2019,
        "Class-wise ECE.",
        ("metrics.calibration",),
        title="Beyond temperature scaling: Obtaining well-calibrated multiclass probabilities with "
        "Dirichlet calibration",
        venue="NeurIPS 2019",
        arxiv="1910.12656",
    ),
    Source(
        "Liu et al. 2023",
        "Liu and others",
        2023,
        "Hyperspherical uniformity of class means.",
        ("metrics.geometry",),
        title="Generalizing and Decoupling Neural Collapse via Hyperspherical Uniformity Gap",
        arxiv="2303.06484",
    ),
    Source(
        "Naeini et al. 2015",
        "Naeini and others",
        2015,
        "Expected and maximum calibration error (ECE, MCE).",
        ("metrics.calibration",),
        title="Obtaining Well Calibrated Probabilities Using Bayesian Binning",
        venue="AAAI 2015",
    ),
    Source(
        "Nguyen and O'Connor 2015",
        "Khanh Nguyen, Brendan O'Connor",
        2015,
        "Calibration error over bins of equal mass.",
        ("metrics.calibration",),
        title="Posterior calibration and exploratory analysis for natural language processing "
        "models",
        venue="EMNLP 2015",
        arxiv="1508.05154",
        doi="10.18653/v1/d15-1182",
    ),
    Source(
        "Nguyen et al. 2023",
        "Nguyen, Levie, Lienen, Kutyniok, Hüllermeier",
        2023,
        "The nearest work to our notebook on collapse under label noise.",
        (
            "papers.beyond.beyond_1_collapse_under_noise",
            "notebooks.beyond_1_collapse_under_noise",
        ),
        title="Memorization-Dilation: Modeling Neural Collapse Under Label Noise",
        venue="ICLR 2023",
        arxiv="2206.05530",
    ),
    Source(
        "Papyan, Han and Donoho 2020",
        "Papyan, Han, Donoho",
        2020,
        "Neural collapse: equal norms and angles, self-duality, nearest class mean.",
        ("metrics.collapse", "metrics.geometry"),
        title="Prevalence of neural collapse during the terminal phase of deep learning training",
        venue="Proceedings of the National Academy of Sciences 117(40)",
        doi="10.1073/pnas.2015509117",
    ),
    Source(
        "Pearson 1907",
        "Pearson",
        1907,
        "The rank correlation of normal pairs, for simulated coverage.",
        ("benchmarks.coverage",),
        title="On Further Methods of Determining Correlation",
    ),
    Source(
        "Szegedy et al. 2016",
        "Szegedy and others",
        2016,
        "A row of Chen's Table 1, quoted.",
        ("papers.chen.chen_4_loss_and_accuracy",),
        title="Rethinking the Inception Architecture for Computer Vision",
        venue="CVPR 2016",
    ),
    Source(
        "Traub et al. 2024",
        "Traub, Bungert, Lüth, Baumgartner, Maier-Hein, Maier-Hein, Jäger",
        2024,
        "The area under the generalised risk-coverage curve (AUGRC).",
        ("metrics.selective",),
        title="Overcoming Common Flaws in the Evaluation of Selective Classification Systems",
        venue="NeurIPS 2024",
        arxiv="2407.01032",
    ),
    Source(
        "Tukey 1958",
        "Tukey",
        1958,
        "The jackknife's pseudo-values.",
        ("claims.intervals",),
        title="Bias and confidence in not-quite large samples",
        venue="Annals of Mathematical Statistics 29",
    ),
    Source(
        "Vaswani et al. 2017",
        "Vaswani and others",
        2017,
        "A row of Chen's Table 1, quoted.",
        ("papers.chen.chen_4_loss_and_accuracy",),
        title="Attention Is All You Need",
    ),
    Source(
        "Wu and Papyan 2024",
        "Wu, Papyan",
        2024,
        "Logarithmic inverse distances of class means (GNC2).",
        ("metrics.collapse", "metrics.geometry"),
        title="Linguistic Collapse: Neural Collapse in (Large) Language Models",
        venue="NeurIPS 2024",
        arxiv="2405.17767",
    ),
    Source(
        "Xia et al. 2025",
        "Xia, Laurent, Franchi, Bouganis",
        2025,
        "Selective classification under label smoothing.",
        ("metrics.selective",),
        title="Towards Understanding Why Label Smoothing Degrades Selective Classification and How "
        "to Fix It",
        venue="ICLR 2025",
        arxiv="2403.14715",
    ),
    Source(
        "Müller et al. 2019",
        "Müller, Kornblith, Hinton",
        2019,
        "Penultimate features in the plane through three templates.",
        ("papers.guo.templates", "notebooks.guo_3_calibration"),
        title="When Does Label Smoothing Help?",
        venue="NeurIPS 2019",
        arxiv="1906.02629",
    ),
    Source(
        "Hendrycks and Gimpel 2017",
        "Hendrycks, Gimpel",
        2017,
        "The area under the ROC curve as the score of out-of-distribution detection.",
        ("metrics.ood",),
        title="A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural "
        "Networks",
        venue="ICLR 2017",
    ),
    Source(
        "Newcombe 1998",
        "Newcombe",
        1998,
        "Limits of the difference of two paired shares.",
        ("metrics.intervals",),
        title="Improved confidence intervals for the difference between "
        "binomial proportions based on paired data",
        venue="Statistics in Medicine 17(22)",
    ),
    Source(
        "Zou and Donner 2008",
        "Zou, Donner",
        2008,
        "Limits of differences from the limits of both parts.",
        ("papers.chen.minima",),
        title="Construction of confidence intervals about effect measures: A general approach",
        venue="Statistics in Medicine 27(10)",
    ),
)


def link_citations(body: str, listed: Sequence[Source] = SOURCES) -> str:
    """A page's HTML in which the first citation of each source leads to the bibliography.

    A citation is a source's first surname, then its year within 60 characters of the same text;
    links, code and headings stay as they are.

    Args: body, without scripts; listed, the sources.

    >>> link_citations("<p>by Holm (1979), as Holm (1979) has it</p>")
    '<p>by <a href="bibliography.html#holm-1979">Holm (1979</a>), as Holm (1979) has it</p>'
    """
    left, closing, parts = list(listed), "", []
    for part in re.split(r"(<[^>]*>)", body):
        opened = re.match(r"<(a|code|pre|h[1-6])\b", part)
        if not closing and opened:
            closing = f"</{opened[1]}>"
        elif part == closing:
            closing = ""
        elif not closing and not part.startswith("<"):
            for source in list(left):
                linked = _link_first(part, source)
                if linked != part:
                    part = linked
                    left.remove(source)
        parts.append(part)
    return "".join(parts)


def _link_first(text: str, source: Source) -> str:
    surname = re.split(r"[ ,]", source.key)[0]
    if surname not in text:  # much faster than the search
        return text
    pattern = rf"\b{surname}\b[^<>\d]{{0,60}}?\b{source.year}\b"
    return re.sub(
        pattern,
        lambda match: f'<a href="bibliography.html#{source.anchor}">{match[0]}</a>',
        text,
        count=1,
    )
