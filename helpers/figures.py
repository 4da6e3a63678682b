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
