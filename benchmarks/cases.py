"""What `benchmarks/fleet.py` measures: networks, how many, and ways to train them together."""

import dataclasses

from lsnc_core.runs import RunSpec, replicas, stacked_step

BASE = {
    "a": 0.8,
    "p": 0.9,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "epochs": 1,
    "evaluate_at": (1,),
    "seed": 0,
    "order_seed": 0,
}
# for a GPU: random images, so that its machine needs no data set, in whole batches
RANDOM = RunSpec(
    data="benchmarks/random_images.py",
    train_size=2560,
    test_size=10,
    pool=1,
    model="resnet18",
    widths=(64,),
    batch=128,
    precision="bfloat16",
    **BASE,
)
GPU_CASES = {
    "resnet18 width 64 bf16": RANDOM,  # 11,173,962 parameters
    "resnet18 width 20 bf16": dataclasses.replace(RANDOM, widths=(20,)),  # 1,094,750
}
CASES = GPU_CASES | {
    "cnn 14x14": RunSpec(
        data="mnist-subset",
        train_size=3000,
        test_size=10,
        pool=2,
        model="cnn",
        widths=(8, 16, 128),
        batch=64,
        **BASE,
    ),
    "cnn 28x28": RunSpec(
        data="mnist-subset",
        train_size=3000,
        test_size=10,
        pool=1,
        model="cnn",
        widths=(8, 16, 128),
        batch=128,
        **BASE,
    ),
    "wide cnn 28x28": RunSpec(
        data="mnist-subset",
        train_size=3000,
        test_size=10,
        pool=1,
        model="cnn",
        widths=(16, 32, 128),
        batch=128,
        **BASE,
    ),
    "lenet 28x28": RunSpec(
        data="mnist-subset",
        train_size=3000,
        test_size=10,
        pool=1,
        model="lenet",
        widths=(10, 20, 50),
        batch=128,
        **BASE,
    ),
    "mlp 8x8": RunSpec(
        data="digits",
        train_size=1200,
        test_size=10,
        pool=1,
        model="mlp",
        widths=(64,),
        batch=64,
        **BASE,
    ),
    "resnet18 width 4": RunSpec(
        data="mnist-subset",
        train_size=600,
        test_size=10,
        pool=1,
        model="resnet18",
        widths=(4,),
        batch=128,
        **BASE,
    ),
}
ALONGSIDE = 8  # networks of the rows "threads" and "listed", and of one row "vmap"
# seconds, at least, of the row as used of a GPU's case: the hours of a grid follow from it
LONG = 10
# numbers of networks besides the one that is used, `execute.block_size`
DEFAULT_SIZES = {"cpu": (1, 8, 16, 32), "cuda": (1, 4, 16, 64, 100, 256)}
SIZES = {
    "cpu": {"resnet18 width 4": (1, 2), "lenet 28x28": (1, 4)} | dict.fromkeys(GPU_CASES, (1, 2)),
    "cuda": {
        "resnet18 width 4": (1, 4, 16),
        "lenet 28x28": (1, 4, 16, 64),
        "resnet18 width 64 bf16": (1, 2, 4),
        "resnet18 width 20 bf16": (1, 4, 16),
    },
}


class AutogradStep(stacked_step.StackedStep):
    """Fits no fleet, so that each takes its step with autograd."""

    @staticmethod
    def fits(fleet: object) -> bool:
        return False


# how a fleet trains: replacements for these names of `runs.fleet`
KINDS = {
    "fleet": {"hold": replicas.hold},
    "listed": {"hold": replicas.Listed},
    "autograd": {"StackedStep": AutogradStep},
}
