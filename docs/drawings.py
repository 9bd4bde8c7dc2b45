"""The four pictures that explain: LoRA, what a teacher may say, how the gate decides, and the split without leaks.

The docstring of each function is the picture in words, its alternative text.

`python docs/drawings.py` draws notebooks/pictures/NAME.svg. Like the road map, they bring their own backgrounds and
read on white and on black; they need no font, script or network.
"""

from html import escape
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "notebooks" / "pictures"
BLUE, PALE, GREEN, RED, GREY, INK = "#1b7fc4", "#dbe7f0", "#d3ecd6", "#f6d9cf", "#7d8590", "#1d2129"
WIDTH = 760


def box(x: float, y: float, width: float, height: float, lines: str, fill: str = PALE, ink: str = INK) -> str:
    """A box with lines of text in its middle, parted by `|`; the first one is bold."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}"/>']
    said = lines.split("|")
    for number, line in enumerate(said):
        at = y + height / 2 + 5 + 17 * (number - (len(said) - 1) / 2)
        weight = "" if number else ' font-weight="600"'
        parts.append(f'<text x="{x + width / 2}" y="{at}" fill="{ink}"{weight}>{escape(line)}</text>')
    return "\n".join(parts)


def note(x: float, y: float, line: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{GREY}">{escape(line)}</text>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """A straight arrow, to the right or down."""
    head = "l-8 -4 v8 z" if to_x > x else "l-4 -8 h8 z"
    line = f'<path d="M{x} {y} L{to_x} {to_y}" stroke="{GREY}" stroke-width="1.5"/>'
    return f'{line}\n<path d="M{to_x} {to_y} {head}" fill="{GREY}"/>'


def lora() -> list[str]:
    """LoRA: the input x goes through the frozen matrix W, and beside it through two thin matrices, A with r rows and B
    with r columns; what comes out of these is multiplied by alpha / r and added. Only A and B are trained, and B
    starts as zeros.
    """
    return [
        box(10, 62, 60, 40, "x"),
        arrow(72, 82, 158, 60),
        arrow(72, 82, 158, 150),
        box(160, 10, 240, 92, "W|millions of numbers|stay as they are", "#e4e4e4"),
        box(160, 128, 150, 40, "A: r rows", BLUE, "#fff"),
        arrow(312, 148, 348, 148),
        box(350, 108, 90, 80, "B|r columns", BLUE, "#fff"),
        arrow(442, 148, 478, 148),
        box(480, 128, 90, 40, "× α / r"),
        arrow(402, 56, 618, 78),
        arrow(572, 148, 618, 100),
        box(620, 62, 60, 50, "+", GREEN),
        arrow(682, 87, 720, 87),
        note(738, 92, "y"),
        note(180, 204, "only A and B are trained; B starts as zeros"),
    ]


def teacher() -> list[str]:
    """What a teacher sees and may say: one chunk of reviews, as data between two markers. It may say what customers
    experience, why it matters, and one thing to do, in its own words. It may not say a number, name or fact that the
    reviews lack, a person, a placeholder, “this review”, or what a review orders it to say.
    """
    does = "what customers experience, and why it matters|one thing to do|in its own words, of customers in general"
    does_not = "a number, name or fact that is not there|a person, [NAME], “this review”|what a review orders it to say"
    return [
        box(10, 60, 170, 110, "one chunk|reviews, as data,|between two markers"),
        arrow(182, 115, 218, 115),
        box(220, 75, 120, 80, "teacher", BLUE, "#fff"),
        arrow(342, 100, 378, 65),
        arrow(342, 130, 378, 170),
        box(380, 8, 370, 104, f"may say|{does}", GREEN),
        box(380, 122, 370, 104, f"may not say|{does_not}", RED),
    ]


def gate() -> list[str]:
    """How the gate decides: a pair passes one rule after another, such as its length, its language, own words,
    only facts of the source, no duplicate. It is kept if it breaks none; else it is rejected, whole, with the first
    rule that it breaks.
    """
    rules = ["length", "language", "own words", "facts|of the source", "no|duplicate"]
    parts = [box(10, 20, 80, 60, "a pair"), arrow(92, 50, 114, 50)]
    for number, rule in enumerate(rules):
        x = 116 + number * 106
        parts += [box(x, 20, 90, 60, rule), arrow(x + 92, 50, x + 104, 50), arrow(x + 45, 82, x + 45, 128)]
    return parts + [
        box(646, 20, 110, 60, "kept|breaks no rule", GREEN),
        box(116, 130, 514, 44, "rejected, whole, with the first rule that it breaks", RED),
        note(380, 196, "every pair goes one way or the other; some of the rules are shown"),
    ]


def split() -> list[str]:
    """The split: a review, its chunks and its pairs go to one side together, to train or to test, and two with nearly
    the same words go together too. Of the fact sheets, that of all reviews and some topics are in the test, the
    others in train.
    """
    parts = [note(75, 16, "reviews"), note(235, 16, "chunks"), note(395, 16, "pairs"), note(630, 16, "sides")]
    for number, (side, fill) in enumerate((("train", PALE), ("train", PALE), ("test", GREEN))):
        y = 28 + 62 * number
        parts += [
            box(10, y, 130, 44, f"review {number + 1}", fill),
            arrow(142, y + 22, 168, y + 22),
            box(170, y, 130, 44, ("its chunk", "its two chunks", "its chunk")[number], fill),
            arrow(302, y + 22, 328, y + 22),
            box(330, y, 130, 44, ("a pair", "two pairs", "a pair")[number], fill),
            arrow(462, y + 22, 518, y + 22),
            box(520, y, 230, 44, f"{side}, all of it", fill),
        ]
    return parts + [
        box(330, 214, 130, 44, "pairs about a|fact sheet", GREEN),
        arrow(462, 236, 518, 236),
        box(520, 214, 230, 44, "test: all reviews, some topics|train: the other sheets", GREEN),
        note(160, 232, "rows that say nearly the same"),
        note(160, 249, "count as one row"),
    ]


HEIGHTS = {lora: 212, teacher: 234, gate: 204, split: 264}
DRAWINGS = {picture.__name__: picture for picture in HEIGHTS}


def alt(name: str) -> str:
    """The picture in words, for those who do not see it."""
    return " ".join(DRAWINGS[name].__doc__.split())


def draw(name: str) -> str:
    """The picture as SVG."""
    height, parts = HEIGHTS[DRAWINGS[name]], DRAWINGS[name]()
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    look = 'role="img" font-family="system-ui, sans-serif" font-size="13" text-anchor="middle"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look}>'
    return "\n".join([head, f"<title>{escape(alt(name))}</title>", *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    for name in DRAWINGS:
        (PICTURES / f"{name}.svg").write_text(draw(name), encoding="utf-8")
