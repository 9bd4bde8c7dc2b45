"""The road map at the top of each notebook: ten stations, and where the reader is.

`python docs/road_map.py` draws notebooks/pictures/NN.svg. The boxes bring their own background and the text between
them is of a middle grey, so a picture reads on white and on black. It needs no font, script or network.
"""

from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "notebooks" / "pictures"
STATIONS = [  # what is done there, and what comes out
    ("warm up", "a sentence"),
    ("collect", "reviews"),
    ("clean", "Markdown"),
    ("chunk", "chunks"),
    ("ask", "pairs"),
    ("train", "adapter"),
    ("judge", "numbers"),
    ("chat", "answers"),
    ("publish", "files"),
    ("SQL", "queries"),
]
ASIDE = (0, 9)  # tracks of their own: no arrow leads there
BOX, GAP, HEIGHT = 74, 14, 44
HERE, ROAD, OFF, GREY = "#1b7fc4", "#dbe7f0", "#e4e4e4", "#7d8590"


def alt(here: int) -> str:
    """The picture in words, for those who do not see it."""
    way = " → ".join(f"{n:02} {STATIONS[n][0]}" for n in range(1, 9))
    aside = " and ".join(f"{n:02} {STATIONS[n][0]}" for n in ASIDE)
    return f"Road map: {way}; beside it {aside}. You are here: {here:02} {STATIONS[here][0]}"


def draw(here: int) -> str:
    """The road map as SVG, with the station `here` marked."""
    parts = []
    for n, (does, makes) in enumerate(STATIONS):
        left, middle = n * (BOX + GAP), n * (BOX + GAP) + BOX / 2
        fill, ink = (HERE, "#fff") if n == here else (OFF if n in ASIDE else ROAD, "#1d2129")
        parts += [
            f'<rect x="{left}" y="20" width="{BOX}" height="{HEIGHT}" rx="8" fill="{fill}"/>',
            f'<text x="{middle}" y="37" font-size="11" fill="{ink}">{n:02}</text>',
            f'<text x="{middle}" y="54" font-size="14" font-weight="600" fill="{ink}">{does}</text>',
            f'<text x="{middle}" y="80" font-size="12" fill="{GREY}">{makes}</text>',
        ]
        if n not in ASIDE and n + 1 not in ASIDE:
            parts.append(f'<path d="M{left + BOX + 2} 38 l8 4 l-8 4 z" fill="{GREY}"/>')
    anchor = {0: "start", 9: "end"}.get(here, "middle")
    at = here * (BOX + GAP) + {"start": 0, "middle": BOX / 2, "end": BOX}[anchor]
    marker = f'x="{at}" y="13" font-size="12" font-weight="600" fill="{HERE}" text-anchor="{anchor}"'
    parts.append(f"<text {marker}>▼ you are here</text>")
    width = len(STATIONS) * (BOX + GAP) - GAP
    size = f'viewBox="0 0 {width} 86" width="{width}" height="86"'
    look = 'role="img" font-family="system-ui, sans-serif" text-anchor="middle"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look}>'
    return "\n".join([head, f"<title>{alt(here)}</title>", *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for here in range(len(STATIONS)):
        (PICTURES / f"{here:02}.svg").write_text(draw(here), encoding="utf-8")
