"""Controls of explorers beyond Altair's own: sliders through listed values, and a play button.

Both are sliders over the numbers 0, 1, ... of listed values; `explorer.js` shows and says the value
instead of its number, and puts a button beside the slider that plays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair

SECONDS = 8.0  # that a slider takes to play from its first value to its last
SHORTEST = 0.08  # seconds a value is shown at least, in which a chart can be drawn


@dataclass(frozen=True)
class ValueSlider:
    """A slider through listed values.

    Attributes:
        name: of the parameter, which holds the number of the value.
        label: of the control.
        values: the values as shown, at least one.
        start: number of the value shown first.
        plays: whether a button moves it.
    """

    name: str
    label: str
    values: Sequence[str]
    start: int = 0
    plays: bool = False

    @property
    def parameter(self) -> "altair.Parameter":
        """The parameter of the chart, bound to the slider."""
        import altair

        last = len(self.values) - 1
        bind = altair.binding_range(min=0, max=last, step=1, name=self.label)
        return altair.param(name=self.name, value=self.start, bind=bind)

    @property
    def settings(self) -> dict[str, Any]:
        """What `explorer.js` reads: values, and for a slider that plays seconds a value."""
        pause = max(SHORTEST, SECONDS / len(self.values))
        return {"values": list(self.values)} | ({"pause": pause} if self.plays else {})


def with_sliders(chart: Any, sliders: Sequence[ValueSlider]) -> Any:
    """An Altair chart with sliders, above its other parameters."""
    named = {slider.name: slider.settings for slider in sliders}
    parameters = [slider.parameter for slider in sliders]
    return chart.add_params(*parameters).properties(usermeta={"sliders": named})
