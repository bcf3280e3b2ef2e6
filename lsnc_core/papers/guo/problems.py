"""Guo et al. 2025: where the released material differs from the paper, and what is done here.

The paper is known from its abstract, its first page and the authors' plotting scripts; F1 to F12
are ids of ours, and the published numbers of the figures are not known to us. No size of an effect
is taken from those scripts: see the first of the `PROBLEMS`.
"""

from lsnc_core.papers.page import Problem

PROBLEMS = (
    Problem(
        "Plotted values",
        "Several of the released plotting scripts draw adjusted values, and which scripts made the "
        "published figures is not known.",
        "No size of an effect is taken from them: directions are tested, and every plotted value "
        "comes from a stored run.",
        notebook="guo_1_dynamics",
    ),
    Problem(
        "Labels of rows",
        "The row labels of some released plots and the names of the runs that they load do not "
        "agree.",
        "Each figure names the image set of the runs behind it, and the list of runs can be "
        "downloaded.",
        notebook="guo_1_dynamics",
    ),
    Problem(
        "Validation collapse",
        "What the training script logs as collapse of validation images is computed from training "
        "features.",
        "Collapse of test images (F12, F5) is computed from the features of test images.",
        notebook="guo_1_dynamics",
    ),
    Problem(
        "Temperature",
        "It is fitted on the test images, by the ECE that is then reported.",
        "Fitted by likelihood on validation images; beside it, labelled, as released "
        "(guo_3_calibration).",
        notebook="guo_3_calibration",
    ),
    Problem(
        "Schedule",
        "The released default has one milestone, epoch 150; the paper has 150 and 350 (Tiny "
        "ImageNet 100 and 200).",
        "The profile `paper` has the paper's milestones. The others, which train for less, have "
        "two at other epochs, `gpu` at the same parts of the training (the table of differences "
        "has them).",
        notebook="guo_1_dynamics",
    ),
    Problem(
        "Batches and STL-10",
        "Early released experiments have batches of 64, the paper 128; the released loader's "
        "branch for STL-10 reads an option that is not defined.",
        "Batches of 128 in `paper`; STL-10 is read by this package.",
        notebook="guo_1_dynamics",
    ),
    Problem(
        "Conventions",
        "The released NC1 lacks the 1/K of Guo eq. 4, the released NC3 is the square of Guo eq. 6.",
        "Those of the equations; `lsnc_core.metrics` has both by name (`guo` and `guo_code`).",
        notebook="guo_1_dynamics",
    ),
    Problem(
        "Authors",
        "Early versions on arXiv name Yufeng Xu as a further author; the TMLR version does not.",
        "Cited as published.",
        notebook="guo_1_dynamics",
    ),
)


def list_problems() -> list[Problem]:
    """The problems of what was released."""
    return list(PROBLEMS)
