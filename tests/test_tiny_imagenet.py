"""Tiny ImageNet, from its folder and from its archive."""

import io
import zipfile

import numpy as np
import pytest
from helpers import SIZES, one_sentence, same, shrink
from PIL import Image

from lsnc_core import data
from lsnc_core.errors import UsageError

pytestmark = pytest.mark.usefixtures("fresh_outputs")

WNIDS = ("n00000007", "n00000003", "n00000005")


def jpeg(pixels, **settings):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **settings)
    return file.getvalue()


@pytest.fixture
def tiny(monkeypatch):
    """Files of a small Tiny ImageNet, by name, and the parts they hold; every third image is
    grey.
    """
    shrink(monkeypatch, "tiny-imagenet", 3)
    generator, files, parts = (
        np.random.default_rng(4),
        {"wnids.txt": "\n".join(WNIDS).encode() + b"\n", "words.txt": b"n1\tx\n"},
        [],
    )

    def add(name, grey):
        files[name] = jpeg(
            generator.integers(0, 256, (64, 64) if grey else (64, 64, 3), dtype=np.uint8)
        )
        with Image.open(io.BytesIO(files[name])) as picture:
            decoded = np.array(picture)
        return np.stack([decoded] * 3) if grey else decoded.transpose(2, 0, 1)

    train, lines, test = [], [], []
    for i in range(SIZES[0]):
        label = (2 * i) % 3
        train.append((f"train/{WNIDS[label]}/images/{WNIDS[label]}_{i}.JPEG", label, i % 3 == 1))
        files[f"train/{WNIDS[label]}/{WNIDS[label]}_boxes.txt"] = b"x"
    for i in range(SIZES[1]):
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t0\t62\t62\n")
        test.append((add(f"val/images/val_{i}.JPEG", i == 2), i % 3))
    train = [(add(name, grey), label) for name, label, grey in sorted(train)]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["test/images/test_0.JPEG"] = b"no labels, not read"
    for part in (train, test):
        parts += [np.stack([image for image, _ in part]), np.array([label for _, label in part])]
    return files, parts


def write_folder(root, files):
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(root, files):
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in reversed(files.items()):
            packed.writestr(f"tiny-imagenet-200/{name}", content)


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_tiny_imagenet_against_the_made_arrays(write, tiny, tmp_path):
    files, parts = tiny
    write(tmp_path, files)
    before = sorted(tmp_path.rglob("*"))
    image_set = data.load("tiny-imagenet", root=tmp_path)
    assert (
        same(image_set, parts)
        and image_set.classes == WNIDS
        and sorted(tmp_path.rglob("*")) == before
    )


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_tiny_imagenet_damaged(write, tiny, tmp_path):
    files, _ = tiny
    name = next(name for name in files if name.startswith("train") and name.endswith("JPEG"))
    spare = jpeg(np.zeros((64, 64), np.uint8))
    cases = {
        "truncated": ({name: files[name][:900]}, name),
        "not a JPEG": ({name: b"text"}, name),
        "a PNG": ({name: b"\x89PNG\r\n\x1a\n" + bytes(50)}, name),
        "wrong size": ({name: jpeg(np.zeros((64, 63), np.uint8))}, "63x64"),
        "huge": ({name: spare.replace(b"\x00\x40\x00\x40", b"\xff\xff\xff\xff", 1)}, name),
        "unknown class": ({"train/n00000009/images/n00000009_0.JPEG": spare}, "n00000009"),
        "outside": (
            {"val/val_annotations.txt": b"../../wnids.txt\tn00000007\t0\t0\t1\t1\n"},
            "is missing",
        ),
        "one too many": ({"train/n00000007/images/n00000007_99.JPEG": spare}, "13 images"),
        "not ascii": ({"wnids.txt": "né".encode()}, "ascii"),
        "no wnids": ({"wnids.txt": None}, "wnids.txt"),
        "empty wnids": ({"wnids.txt": b""}, "not in wnids.txt"),
    }
    for case, (changes, word) in cases.items():
        changed = {
            key: content for key, content in {**files, **changes}.items() if content is not None
        }
        write(tmp_path / case, changed)
        with pytest.raises(UsageError) as caught:
            data.load("tiny-imagenet", root=tmp_path / case)
        assert (
            word in str(caught.value)
            and str(tmp_path / case) in str(caught.value)
            and one_sentence(str(caught.value))
        ), case


def test_tiny_imagenet_zip_that_is_broken(tiny, tmp_path):
    write_zip(tmp_path, tiny[0])
    archive = tmp_path / "tiny-imagenet-200.zip"
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    for damage in (whole[:-100], b"", bytes(flipped)):
        archive.write_bytes(damage)
        with pytest.raises(UsageError, match="is damaged") as caught:
            data.load("tiny-imagenet", root=tmp_path)
        assert str(archive) in str(caught.value) and one_sentence(str(caught.value))
