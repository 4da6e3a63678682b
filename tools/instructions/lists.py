"""Makers of tasks about lists and about numbers."""

import re

from tools.instructions.parts import (
    CARRIERS,
    GROUPS,
    figure,
    in_words,
    lines,
    listed,
    maker,
    plain,
    says,
    text,
)

PLURALS = ("gloves", "matches", "pliers", "socks", "trousers")
JOINTS = {
    "commas": ", ",
    "semicolons": "; ",
    "slashes": " / ",
    "plus signs": " + ",
    "hyphens": " - ",
}

# lists


@maker
def reverse_list(draw):
    for items, between in draw.lists(3, 5):
        back = items[::-1]
        yield between.join(items), between.join(back), listed(back), {}


@maker
def sort_words(draw):
    for items, between in draw.lists(3, 5):
        rising = sorted(items, key=str.lower)
        if rising != items and len({item[0] for item in items}) == len(items):
            yield between.join(items), between.join(rising), listed(rising), {}


@maker
def count_items(draw):
    for items, _ in draw.lists(2, 8):
        yield ", ".join(items), str(len(items)), figure(len(items), r" \w+"), {}


@maker
def nth_item(draw):
    places = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
    nth = draw.each(list(places))
    for (items, between), name in zip(draw.lists(4, 6), nth, strict=False):
        item = items[places[name]]
        yield between.join(items), item, says(item), {"nth": name}


@maker
def remove_item(draw):
    for items, between in draw.lists(4, 6):
        word = draw.choice(items)
        rest = [item for item in items if item != word]
        yield between.join(items), between.join(rest), listed(rest), {"word": word}


@maker
def add_item(draw):
    for (*items, word), between in draw.lists(4, 6):
        longer = [*items, word]
        given, full = between.join(items), between.join(longer)
        yield given, full, listed(longer), {"word": word}


@maker
def remove_duplicates(draw):
    for items, between in draw.lists(3, 4):
        given = items + draw.sample(items, draw.randint(1, 2))
        draw.shuffle(given)
        once = list(dict.fromkeys(given))
        yield between.join(given), between.join(once), listed(once), {}


@maker
def join_items(draw):
    joints = draw.each(list(JOINTS))
    for (items, _), name in zip(draw.lists(3, 5), joints, strict=False):
        pattern = rf"\s*{re.escape(JOINTS[name].strip())}\s*".join(map(plain, items))
        given = draw.choice(["\n", "\n", " "]).join(items)
        check = text("", pattern=pattern)
        yield given, JOINTS[name].join(items), check, {"sep": name}


def one_a_line(draw, mark, pattern):
    """Half of the inputs are lists and half are sentences that name things."""
    for carrier, pool, *article in draw.each(CARRIERS["lists"]):
        items = draw.some(pool, 3, 5)
        given = ", ".join(items)
        if draw.random() < 0.5:
            named = [an(item) for item in items] if article else items
            things = f"{', '.join(named[:-1])} and {named[-1]}"
            given = carrier.format(list=things)
        rows = "\n".join(mark.format(n) + item for n, item in enumerate(items, 1))
        yield given, rows, lines(items, pattern), {}


def an(word: str) -> str:
    if word in PLURALS:
        return word
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


@maker
def bullet_list(draw):
    return one_a_line(draw, "- ", "[-*•–]")


@maker
def numbered_list(draw):
    return one_a_line(draw, "{}. ", r"\d+[.):]")


@maker
def odd_one_out(draw):
    pools = list(GROUPS.values())
    for pool in draw.each(pools):
        (odd,) = draw.some(draw.choice([p for p in pools if p != pool]), 1, 1)
        items = [*draw.some(pool, 3, 3), odd]
        draw.shuffle(items)
        yield ", ".join(items), odd, says(odd), {}


@maker
def category(draw):
    for label in draw.each(list(GROUPS)):
        labels = [label, *draw.sample([g for g in GROUPS if g != label], 2)]
        draw.shuffle(labels)
        (word,) = draw.some(GROUPS[label], 1, 1)
        options = f"{labels[0]}, {labels[1]} or {labels[2]}"
        yield word, label, says(label, an(label)), {"options": options}


@maker
def longer_word(draw):
    for pool in draw.each(list(GROUPS.values())):
        words = draw.some(pool, 2, 2)
        short, long = sorted(words, key=len)
        if len(long) - len(short) >= 2:
            between = draw.choice([", ", " or ", " / "])
            yield between.join(words), long, says(long), {}


# numbers


def sorted_numbers(draw, falling):
    while True:
        numbers = draw.numbers(3, 5)
        right = sorted(numbers, reverse=falling)
        if right != numbers:
            given, out = (", ".join(map(str, some)) for some in (numbers, right))
            yield given, out, listed(list(map(str, right))), {}


@maker
def sort_numbers(draw):
    return sorted_numbers(draw, falling=False)


@maker
def sort_descending(draw):
    return sorted_numbers(draw, falling=True)


@maker
def largest_number(draw):
    while True:
        numbers = draw.numbers(3, 5)
        given = ", ".join(map(str, numbers))
        yield given, str(max(numbers)), figure(max(numbers)), {}


@maker
def number_to_words(draw):
    for number in draw.each([*range(11, 100), *range(100, 1000, 25)]):
        right = plain(in_words(number)).replace(r"\-", "[ -]")
        right = right.replace(" and ", " (?:and )?")
        yield str(number), in_words(number), text("", pattern=right), {}


@maker
def count_to_n(draw):
    for top in draw.each(list(range(3, 16))):
        numbers = [str(n) for n in range(1, top + 1)]
        yield str(top), ", ".join(numbers), listed(numbers), {}


@maker
def arithmetic(draw):
    for sign in draw.each(["+", "+", "-", "x", "/"]):
        a, b = draw.randint(2, 12), draw.randint(2, 9)
        given, result = {
            "+": (f"{a * b} + {b + 6}", a * b + b + 6),
            "-": (f"{a * b + b} - {b + a}", a * b - a),
            "x": (f"{a} x {b}", a * b),
            "/": (f"{a * b} / {b}", a),
        }[sign]
        right = figure(result)
        right["pattern"] = right["pattern"].replace("(?i)", r"(?i)(?:[\d +x/-]+= ?)?")
        yield given, str(result), right, {}
