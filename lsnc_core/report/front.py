"""The front page: what holds, by paper, and where the numbers come from."""

from lsnc_core.report import answers, networks, record
from lsnc_core.report.site import Site, capital, trusted
from lsnc_core.show import CLASSES, SIGNS, verdicts_html


def write(site: Site) -> None:
    """Write the front page."""
    rows = answers.in_order(record.beside(site.answers, site.recordings, site.profile))
    facts = networks.facts(site.runs)
    for recording in site.recordings:
        facts[capital(recording.where)] = recording.versions
    site.write(
        "index.html",
        "index.html.j2",
        title="Report",
        note="",
        failures=site.failures,
        verdicts=trusted(verdicts_html(rows)) if rows else "",
        tallies=answers.tallies(site.answers),
        changes=answers.changes(site.answers),
        signs=SIGNS,
        classes=CLASSES,
        recordings=site.recordings,
        facts=facts,
    )
