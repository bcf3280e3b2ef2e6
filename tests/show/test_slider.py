"""The slider over ready pictures: what it shows first, and what it refuses."""

import html.parser
import json

import pytest

from lsnc_core.errors import UsageError
from lsnc_core.show.slider import slider_html


class Elements(html.parser.HTMLParser):
    """Every start tag with its attributes and the text inside it; all tags closed in order."""

    VOID = ("img", "input")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})
        if tag not in self.VOID:
            self.open.append((tag, self.elements[-1]))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, element in self.open:
            element["text"] += data

    def all(self, tag, name=""):
        """The elements of a tag, with a class where one is given."""
        same = [one for one in self.elements if one["tag"] == tag]
        return [one for one in same if not name or one.get("class") == name]


def test_a_slider_shows_its_start_and_hides_the_rest():
    labels = ['p = "0"', "p < 1 & more", "p = 1"]
    svgs = ["<svg>0</svg>", "<svg>1</svg>", "<svg>2</svg>"]
    page = Elements(slider_html("kept <mass>", labels, svgs, start=1))
    (box,) = page.all("div", "lsnc-frames")
    assert json.loads(box["data-labels"]) == labels
    frames = page.all("div", "lsnc-frame")
    assert ["hidden" in frame for frame in frames] == [True, False, True]
    (control,) = page.all("input")
    assert (control["type"], control["min"], control["max"]) == ("range", "0", "2")
    assert control["value"] == "1" and control["aria-valuetext"] == labels[1]
    assert page.all("output")[0]["text"] == labels[1]
    assert page.all("label")[0]["text"].strip() == "kept <mass>"
    alts = [image["alt"] for image in page.all("img")]
    assert alts == [f"kept <mass>: {label}" for label in labels]
    assert len({image["src"] for image in page.all("img")}) == 3


@pytest.mark.parametrize(
    "labels, svgs, start",
    [
        ([], [], 0),
        (["a"], ["<svg/>", "<svg/>"], 0),
        (["a"], ["<svg/>"], 1),
        (["a"], ["<svg/>"], -1),
    ],
)
def test_a_slider_of_nothing_or_of_odd_numbers_is_refused(labels, svgs, start):
    with pytest.raises(UsageError, match=r"^a slider needs .*\.$"):
        slider_html("title", labels, svgs, start)
