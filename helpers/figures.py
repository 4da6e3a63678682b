"""Figures: pictures that read without colour and without eyes.

In: a matplotlib figure and a sentence.  Out: a PNG with that sentence as its alt text.
"""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
from IPython.display import Image, display

# Okabe and Ito 2008: told apart by colour-blind readers; dashes do it in greyscale
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"


def show(figure: plt.Figure, alt: str) -> None:
    """Display a figure with a text that says what it shows, and close it.

    Raises ValueError when alt is blank.
    """
    if not alt.strip():
        raise ValueError("alt is blank: say in a sentence what the picture shows")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    display(Image(picture.getvalue(), alt=alt))


def curves(lines: dict, title: str, alt: str, xlabel: str = "step") -> None:
    """Show losses as lines, each with its name beside its right end.

    lines: name -> pandas Series, its index along the x axis; at most four.
    title: the message of the plot. alt: what it shows, for those who do not see it.
    """
    figure, axes = plt.subplots(figsize=(7, 3))
    looks = zip((BLUE, ORANGE, GREEN, GREY), ("-", "--", ":", "-."), strict=True)
    ends = []
    for (name, line), (colour, dash) in zip(lines.items(), looks, strict=False):
        line = line.dropna()
        marker = "o" if len(line) < 20 else ""
        axes.plot(line.index, line, color=colour, ls=dash, marker=marker, lw=2)
        ends.append((line.iloc[-1], line.index[-1], name, colour))
    axes.set(xlabel=xlabel, ylabel="loss", title=title, ylim=0)
    axes.xaxis.get_major_locator().set_params(integer=True)  # no half epochs
    axes.spines[["top", "right"]].set_visible(False)
    points = 72 / figure.dpi
    # names of lines that meet stay apart, and above the axis
    taken = axes.bbox.y0 * points - 9
    for y, x, name, colour in sorted(ends):
        height = axes.transData.transform((x, y))[1] * points
        taken = max(height - 4, taken + 12)
        offset = (8, taken - height)
        axes.annotate(name, (x, y), offset, textcoords="offset points", color=colour)
    show(figure, alt)
