"""What charts are drawn with: names that do not cover each other, links, and text that is only text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from unicodedata import east_asian_width

WIDTH, HEIGHT = 760, 394
LEFT, RIGHT, TOP, BOTTOM = 84, 36, 80, 62
LETTER = 8.8  # of a name, on average in a wide font; wide characters take two
LONGEST_NAME = 26
LINE = 17  # from one name to the next
Box = tuple[float, float, float, float]  # left, top, right, bottom
# Where a name goes next to its mark: so far across, so far down, and which end of it is there.
NEAR = ((14, 5, "start"), (-14, 5, "end"), (0, -14, "middle"), (0, 24, "middle"))
FAR = tuple(
    (dx, 5 + dy * LINE, end) for dy in (1, -1, 2, -2, 3, -3) for dx, end in ((16, "start"), (-16, "end"))
)


@dataclass
class Names:
    """Places for names: each where it covers no mark and no other name, and if it can no line; or nowhere."""

    taken: list[Box] = field(default_factory=list)
    crossed: list[Box] = field(default_factory=list)  # by lines

    def keep_clear(self, x: float, y: float, radius: float = 7) -> None:
        """Keep names away from a mark."""
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def avoid(self, places: Sequence[tuple[float, float]]) -> None:
        """Keep names off a line where there is room elsewhere."""
        for (x1, y1), (x2, y2) in pairwise(places):
            count = max(1, math.ceil(max(abs(x2 - x1), abs(y2 - y1)) / 12))
            for number in range(count + 1):
                x, y = x1 + (x2 - x1) * number / count, y1 + (y2 - y1) * number / count
                self.crossed.append((x - 3, y - 3, x + 3, y + 3))

    def write(self, name: str, x: float, y: float, kind: str = "name") -> str:
        """Write a name near a place, with a thin line to it where it is farther; empty where all is taken."""
        width = LETTER * sum(2 if east_asian_width(char) in "WF" else 1 for char in name)
        for hindrances in ((*self.taken, *self.crossed), self.taken):
            for dx, dy, end in (*NEAR, *FAR):
                left = x + dx - (0 if end == "start" else width if end == "end" else width / 2)
                box = (left, y + dy - 12, left + width, y + dy + 4)
                inside = box[0] > LEFT and box[2] < WIDTH - 4 and box[1] > TOP - 12 and box[3] < HEIGHT - 28
                if inside and not any(_meets(box, other) for other in hindrances):
                    self.taken.append(box)
                    thread = f'<path class="lead" d="{path([(x, y), (x + dx * 0.9, y + dy - 4)])}"/>'
                    written = text(x + dx, y + dy, name, end, kind)
                    return thread + written if abs(dy - 5) >= LINE and dx else written
        return ""


def _meets(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def path(places: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)


@dataclass(frozen=True)
class About:
    """What a reader learns of what is drawn."""

    hover: str = ""  # shows under the pointer
    link: str = ""  # a click goes there
    key: str = ""  # of its row in the table
    why: str = ""  # it is ruled out


def linked(inside: str, about: About) -> str:
    """Wrap what is drawn, so that its description shows on hover and a click follows its link."""
    if about == About():
        return inside
    said = f"{about.hover}: {about.why}" if about.why else about.hover
    title = f"<title>{_visible(said)}</title>" if said else ""
    out = ' class="out"' if about.why else ""
    if about.link:
        return f'<a href="#{escape(about.link)}"{out}>{title}{inside}</a>'
    return f"<g{out}>{title}{inside}</g>"


def cut(name: str) -> str:
    """Shorten a name that is too long for a chart."""
    short = name.replace("compressed-tensors-", "")  # its schemes are names of their own
    return short if len(short) <= LONGEST_NAME else f"{short[: LONGEST_NAME - 1]}…"


def text(x: float, y: float, shown: str, anchor: str, kind: str = "") -> str:
    """Write a stranger's words as text."""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_visible(shown)}</text>'


def _visible(shown: str) -> str:
    return escape("".join(char if char.isprintable() else "\ufffd" for char in shown))


def svg(
    height: float, parts: Iterable[str], title: str, style: str = "", data: Mapping[str, str] | None = None
) -> str:
    """Put the parts together; one with a style is a file, and one without goes into a page."""
    file = f' xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}"' if style else ""
    kept = "".join(f' data-{name}="{_visible(value)}"' for name, value in (data or {}).items())
    return "\n".join(
        [
            f'<svg{file} viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}"{kept}>',
            f"<title>{escape(title)}</title>{f'<style>{style}</style>' if style else ''}",
            *parts,
            "</svg>\n",
        ]
    )
