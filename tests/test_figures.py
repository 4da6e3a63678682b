"""Run with `python -m pytest tests/test_figures.py`: seconds, no network.

The drawings in notebooks/figures are written by hand; `faults` says what a reader would
trip over. Widths are those of DejaVu Sans, wider than the fonts that the drawings name,
so what fits here fits there.
"""

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

from helpers import figures, models, records, templates, tokens

import pandas as pd
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

FOLDER = Path(__file__).resolve().parent.parent / "notebooks" / "figures"
DRAWN = {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.svg"))}
SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {SVG + e for e in "svg title desc style marker g rect path text".split()}
ATTRIBUTES = set(
    "viewBox width height role aria-labelledby id class transform x y rx d "
    "refX refY markerWidth markerHeight orient".split()
)
SHIFT = re.compile(r"translate\((\d+) (\d+)\)")
WHITE = "#ffffff"


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: "Box", margin: float = 0) -> bool:
        return (
            self.left + margin <= other.left
            and other.right <= self.right - margin
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    def meets(self, other: "Box") -> bool:
        across = min(self.right, other.right) > max(self.left, other.left)
        return across and min(self.bottom, other.bottom) > max(self.top, other.top)


def rules(root) -> list[tuple[str, dict[str, str]]]:
    """The style sheet: (selector, property -> value) in the order written."""
    sheet = "".join(style.text for style in root.iter(SVG + "style"))
    return [
        (selector.strip(), dict(re.findall(r"([\w-]+):\s*([^;]+?)\s*(?:;|$)", body)))
        for selector, body in re.findall(r"([^{}]+)\{([^}]*)\}", sheet)
    ]


def style(element, sheet) -> dict[str, str]:
    names = {element.tag.removeprefix(SVG)}
    names |= {f".{name}" for name in element.get("class", "").split()}
    found = {}
    for selector, properties in sheet:
        if selector in names:
            found |= properties
    return found


def size(properties) -> float:
    """In pixels; in "font", the shorthand, the size comes first."""
    written = properties.get("font-size", properties["font"])
    return float(re.match(r"[\d.]+", written)[0])


def placed(element, x=0.0, y=0.0):
    """Every element with the shift that groups around it add up to."""
    if shift := SHIFT.fullmatch(element.get("transform", "")):
        x, y = x + float(shift[1]), y + float(shift[2])
    yield element, x, y
    for child in element:
        yield from placed(child, x, y)


def rectangle(element, x, y) -> Box:
    left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
    width, height = float(element.get("width")), float(element.get("height"))
    return Box(left, top, left + width, top + height)


def extent(element, x, y, properties) -> Box:
    mono = "monospace" in properties.get("font-family", "")
    font = FontProperties(
        family="DejaVu Sans Mono" if mono else "DejaVu Sans",
        weight=properties.get("font-weight", "normal"),
        size=size(properties),
    )
    text = element.text
    width = TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]
    before = {"middle": width / 2, "end": width}
    left = x + float(element.get("x")) - before.get(properties.get("text-anchor"), 0)
    base, height = y + float(element.get("y")), size(properties)
    return Box(left, base - 0.75 * height, left + width, base + 0.2 * height)


def contrast(colour: str, ground: str) -> float:
    """WCAG 2.2, "contrast ratio", of two colours written #rrggbb."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(colour), luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


def faults(source: str) -> list[str]:
    """What is wrong with a drawing, a line each."""
    try:
        root = ET.fromstring(source)
    except ET.ParseError as error:
        return [f"no XML: {error}"]
    found, sheet = [], rules(root)
    ids = {element.get("id"): element for element in root.iter()}
    for name in ("title", "desc"):
        words = ids.get(name)
        if words is None or words.tag != SVG + name or not (words.text or "").strip():
            found.append(f"no {name}")
    if (root.get("role"), root.get("aria-labelledby")) != ("img", "title desc"):
        found.append("not announced as a picture with its title and desc")

    for element in root.iter():
        if element.tag not in ELEMENTS:
            found.append(f"element {element.tag.removeprefix(SVG)}")
        for name, value in element.attrib.items():
            if name not in ATTRIBUTES:
                found.append(f"attribute {name}")
            if name == "transform" and not SHIFT.fullmatch(value):
                found.append(f"transform {value}")
    if re.search(r"url\((?!#)|@import", source):
        found.append("takes something from elsewhere")

    shapes = [(e, x, y) for e, x, y in placed(root) if e.tag == SVG + "rect"]
    boxes = [rectangle(*shape) for shape in shapes]
    fills = {style(shape[0], sheet).get("fill", WHITE) for shape in shapes} - {"none"}
    canvas = Box(0, 0, *map(float, root.get("viewBox").split()[2:]))
    written = []
    for element, x, y in placed(root):
        if element.tag != SVG + "text":
            continue
        text, properties = element.text, style(element, sheet)
        if size(properties) < 14:
            found.append(f"small: {text}")
        if min(contrast(properties["fill"], g) for g in fills | {WHITE}) < 4.5:
            found.append(f"pale: {text}")
        box = extent(element, x, y, properties)
        if not canvas.holds(box):
            found.append(f"off the picture: {text}")
        if any(box.meets(b) and not b.holds(box, margin=3) for b in boxes):
            found.append(f"runs over an edge: {text}")
        written.append((text, box))
    for (one, its), (other, place) in combinations(written, 2):
        if its.meets(place):
            found.append(f"one over the other: {one} / {other}")
    return found


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_in_a_drawing_is_lost_on_its_reader(name):
    assert faults(DRAWN[name]) == []


@pytest.mark.parametrize(
    "old, new, fault",
    [
        ("</svg>", "", "no XML"),
        ('<desc id="desc">', '<desc id="other">', "no desc"),
        ('role="img"', "", "not announced"),
        ("</svg>", "<script/></svg>", "element script"),
        ("</svg>", '<image href="x.png"/></svg>', "element image"),
        ("</svg>", '<g onclick="x"/></svg>', "attribute onclick"),
        ("<text class", '<text style="font-size: 9px" class', "attribute style"),
        ("</svg>", '<g transform="scale(0.5)"/></svg>', "transform scale"),
        ("url(#tip)", "url(tips.svg#tip)", "elsewhere"),
        (".note { font-size: 14px", ".note { font-size: 13px", "small: finetuning"),
        ("fill: #4d4d4d }", "fill: #8a8a8a }", "pale: finetuning"),
        ('class="name mid" x="640"', 'class="name mid" x="735"', "off the picture"),
        ("Wren<", "Wren, who is never at a loss<", "runs over an edge: Wren"),
        (">it is given<", ">it is given</text><text x='100' y='170'>it<", "one over"),
    ],
)
def test_a_drawing_that_is_spoilt_does_not_pass(old, new, fault):
    whole = DRAWN["general_to_specialist"]
    assert old in whole
    assert any(fault in line for line in faults(whole.replace(old, new)))


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_stays_small_enough_to_be_read_as_source(name):
    assert len(DRAWN[name].encode()) < 12_000


def test_no_drawing_has_a_style_of_its_own():
    sheets = {re.search("<style>.*</style>", s, re.S)[0] for s in DRAWN.values()}
    assert len(sheets) == 1
    strokes = set(re.findall(r"stroke: #(\w\w)(\w\w)(\w\w)", sheets.pop()))
    colours = {f"#{''.join(rgb)}".upper() for rgb in strokes if len(set(rgb)) > 1}
    assert colours == {figures.BLUE, figures.ORANGE, figures.GREEN}


# What two of them show is a row of the course, as helpers treat it


def words(name: str, kind: str) -> list[str]:
    """The texts of one class in a drawing, as their reader is told to read them."""
    return [
        element.text.replace("·", " ").replace(r"\n", "\n")
        for element in ET.fromstring(DRAWN[name]).iter(SVG + "text")
        if kind in element.get("class", "").split()
    ]


@pytest.fixture(scope="module")
def tokenizer():
    """With the template that a base model is given."""
    return models.load("tiny")[1]


def training_row(text: str, tokenizer) -> dict:
    """The core training row that this is the text of; lines may be broken anywhere."""
    for row in records.core(records.load("faq")["train"]):
        whole = templates.render(records.messages(row), tokenizer).text
        whole = whole.removesuffix(tokenizer.eos_token)
        if whole.replace(" ", "") == text.replace(" ", ""):
            return row
    raise AssertionError(f"no row of faq_train.jsonl in the QA template reads {text!r}")


def test_the_template_drawn_is_the_template_used(tokenizer):
    parts = words("template_anatomy", "part")
    row = training_row("".join(parts), tokenizer)
    prompt = templates.prompt(records.prompt(row), tokenizer).text
    opening, closing = prompt.split(row["question"])
    assert (parts[0], parts[2]) == (opening, closing)
    assert "".join(parts[:3]) == prompt


def test_the_tokens_drawn_are_those_of_tiny(tokenizer):
    drawn = words("token_label_strip", "token")
    talk = records.messages(training_row("".join(drawn), tokenizer))
    row = tokens.encode(talk, tokenizer)
    cut = [tokenizer.decode(i) for i in row["input_ids"]]
    assert drawn == cut[:-1], f"the tokenizer has changed: draw this row as {cut}"
    labels = ["-100" if i == tokens.IGNORE else "same id" for i in row["labels"]]
    shown = [w for w in words("token_label_strip", "mid") if w in ("-100", "same id")]
    padding = words("token_label_strip", "mid").count(tokenizer.pad_token)
    assert padding and shown == labels + ["-100"] * padding


def test_names_of_curves_cover_neither_each_other_nor_the_axis(monkeypatch):
    boxes, floors = [], []

    def look(figure, alt):
        figure.canvas.draw()
        texts = figure.axes[0].texts
        floors.append(figure.axes[0].bbox.y0)
        boxes.extend((text.get_text(), text.get_window_extent()) for text in texts)

    monkeypatch.setattr(figures, "show", look)
    ends = {"one": 0.05, "two": 0.06, "three": 0.05, "four": 0.9}
    figures.curves({who: pd.Series([5, end]) for who, end in ends.items()}, "t", "alt")
    assert {name for name, _ in boxes} == set(ends)
    assert min(box.y0 for _, box in boxes) >= floors[0]
    for (_, one), (_, two) in combinations(boxes, 2):
        assert not one.overlaps(two)


def test_names_of_curves_that_end_close_together_stand_twelve_points_apart(monkeypatch):
    feet = []

    def look(figure, alt):
        figure.canvas.draw()
        for text in figure.axes[0].texts:
            feet.append(text.get_window_extent().y0 * 72 / figure.dpi)

    monkeypatch.setattr(figures, "show", look)
    ends = {"one": 1.0, "two": 1.25, "three": 1.5}
    figures.curves({who: pd.Series([5, end]) for who, end in ends.items()}, "t", "alt")
    assert [b - a for a, b in pairwise(feet)] == pytest.approx([12, 12], abs=0.02)
