"""HTML as its elements, for tests of pages."""

import html.parser

import pytest

from lsnc_core.show import FOR_REPORT


class Elements(html.parser.HTMLParser):
    """Every start tag with its attributes and the text inside it; all tags must be closed in
    order.
    """

    VOID = ("img", "input", "meta", "link", "br", "hr")

    def __init__(self, text):
        super().__init__()
        self.listed, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.listed.append({"tag": tag, "text": "", **dict(attributes)})
        if tag not in self.VOID:
            self.open.append((tag, self.listed[-1]))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        """The elements of a tag with these attributes; `class_` stands for class."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            element
            for element in self.listed
            if element["tag"] == tag and wanted.items() <= element.items()
        ]

    def texts(self, tag, **attributes):
        return [element["text"] for element in self.all(tag, **attributes)]


def bundle(shown):
    """What an object of `lsnc_core.show` displays in a kernel of the report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOR_REPORT, "1")
        return shown._repr_mimebundle_()
