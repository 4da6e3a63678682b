"""Makers of tasks about words and sentences, what they name, and what one knows."""

import json
import re
import string

from tools.instructions.parts import (
    CARRIERS,
    ITEMS,
    MAKERS,
    POOLS,
    bare,
    figure,
    holds,
    maker,
    plain,
    says,
    text,
    yes_or_no,
)

MARKS = {
    "round brackets": "()",
    "square brackets": "[]",
    "curly brackets": "{}",
    "double quotation marks": '""',
    "asterisks": "**",
}

# words and sentences


def nth_word(draw, sentences, n):
    for sentence in draw.each(sentences):
        word = bare(sentence.split()[n])
        yield sentence, word, says(word), {}


@maker
def first_word(draw):
    return nth_word(draw, POOLS["sentences"], 0)


@maker
def second_word(draw):
    return nth_word(draw, POOLS["second_sentences"], 1)


@maker
def count_words(draw):
    for sentence in draw.each(POOLS["sentences"]):
        count = len(sentence.split())
        yield sentence, str(count), figure(count, " words?"), {}


@maker
def contains_word(draw):
    longest = {s: max(map(bare, s.split()), key=len) for s in POOLS["sentences"]}
    for sentence in draw.each(POOLS["sentences"]):
        word, yes = longest[sentence], draw.random() < 0.5
        while not yes and word[:4].lower() in sentence.lower():
            word = longest[draw.choice(POOLS["sentences"])]
        word = word if word in POOLS["days"] + POOLS["months"] else word.lower()
        yield sentence, "Yes" if yes else "No", yes_or_no(yes), {"word": word}


@maker
def copy(draw):
    for given in draw.each(POOLS["phrases"] + POOLS["sentences"]):
        yield given, given, {"type": "exact", "value": given}, {}


@maker
def uppercase(draw):
    for phrase in draw.each(POOLS["phrases"]):
        yield phrase, phrase.upper(), text(phrase.upper(), case=True), {}


@maker
def title_case(draw):
    for phrase in draw.each(POOLS["phrases"]):
        title = string.capwords(phrase)
        yield phrase, title, text(title, case=True), {}


@maker
def wrap_text(draw):
    marks = draw.each(list(MARKS))
    for phrase, name in zip(draw.each(POOLS["phrases"]), marks, strict=False):
        first, last = MARKS[name]
        wrapped = [f"{first}{phrase}{last}", f"{first} {phrase} {last}"]
        wrapped += [f"“{phrase}”"] if first == '"' else []
        check = {"type": "exact_any", "values": wrapped}
        yield phrase, wrapped[0], check, {"marks": name}


@maker
def replace_word(draw):
    for sentence, old, new in draw.each(ITEMS["replace_word"]):
        changed = re.sub(rf"\b{old}\b", new, sentence)
        yield sentence, changed, text(changed), {"old": old, "new": new}


@maker
def first_sentence(draw):
    for sentences in draw.each(ITEMS["first_sentence"]):
        yield " ".join(sentences), sentences[0], text(sentences[0]), {}


@maker
def past_tense(draw):
    for present, past in draw.each(ITEMS["past_tense"]):
        yield present, past, text(past), {}


@maker
def negate(draw):
    for sentence, negative in draw.each(ITEMS["negate"]):
        pattern = plain(negative)
        for full, short in {
            "will not": "won['’]t",
            "cannot": "can['’]t|can not",
        }.items():
            pattern = pattern.replace(full, f"(?:{full}|{short})")
        pattern = re.sub(r"(?<!am|ll|an) not\b", "(?: not|n['’]t)", pattern)
        pattern = pattern.replace(" am not", "(?: am|['’]m) not")
        yield sentence, negative, text(negative, pattern=pattern), {}


@maker
def answer_from_text(draw):
    for passage, question, answer, keys in draw.each(ITEMS["answer_from_text"]):
        yield f"{passage}\n{question}", answer, holds(*keys, most=10), {}


@maker
def sentence_with_words(draw):
    for first, second, sentence in draw.each(ITEMS["sentence_with_words"]):
        parts = [{"type": "contains", "any": [w, f"{w}s"]} for w in (first, second)]
        parts += [{"type": "words", "min": 4, "max": 25}]
        one = r"(?is)(?!.*\b(?:sentences?|words?|both)\b)(?!.*[.!?]\s+\w)[^\n]+"
        parts += [{"type": "regex", "pattern": one}]
        yield f"{first}, {second}", sentence, {"type": "all", "checks": parts}, {}


# what a sentence names


@maker
def extract_email(draw):
    hosts, names = (draw.each(POOLS[pool]) for pool in ("hosts", "names"))
    for carrier in draw.each(CARRIERS["extract_email"]):
        first, last = next(names), draw.choice(POOLS["surnames"])
        box = draw.choice([first, f"{first}.{last}", "post", "info", last]).lower()
        email = f"{box}@{next(hosts)}.example"
        yield carrier.format(name=first, email=email), email, says(email), {}


@maker
def extract_price(draw):
    pairs = [(c, value) for c, *some in CARRIERS["extract_price"] for value in some]
    for carrier, price in draw.each(pairs):
        amount = plain(re.sub(r"[^\d.,]", "", price))
        pattern = rf"(?:[€£$] ?)?{amount}(?:\.00)?(?: ?(?:[€£$]|[a-z]+))?"
        yield carrier.format(price=price), price, says(pattern=pattern), {}


@maker
def extract_time(draw):
    pairs = [(c, value) for c, *some in CARRIERS["extract_time"] for value in some]
    for carrier, time in draw.each(pairs):
        digits = re.sub(r"(?<=\d)(:|\\\.)(?=\d)", "[.:]", plain(time))
        pattern = f"(?:at |by |until )?{digits}"
        given = carrier.format(time=time).replace("..", ".")
        yield given, time, says(pattern=pattern), {}


@maker
def extract_place(draw):
    towns = draw.each(POOLS["towns"])
    for carrier in draw.each(CARRIERS["extract_place"]):
        town = next(towns)
        ways = [f"{word} {town}" for word in ("in", "to", "from", "near", "outside")]
        yield carrier.format(town=town), town, says(town, *ways), {}


@maker
def extract_colour(draw):
    colours = draw.each(POOLS["colours"])
    for carrier in draw.each(CARRIERS["extract_colour"]):
        colour = next(colours)
        yield carrier.format(colour=colour), colour, says(colour), {}


@maker
def extract_name(draw):
    names, surnames = (draw.each(POOLS[pool]) for pool in ("names", "surnames"))
    for carrier in draw.each(CARRIERS["extract_name"]):
        full = f"{next(names)} {next(surnames)}"
        yield carrier.format(full=full), full, says(full), {}


@maker
def extract_number(draw):
    for carrier in draw.each(CARRIERS["extract_number"]):
        number = draw.randint(11, 48)
        yield carrier.format(n=number), str(number), figure(number), {}


@maker
def pairs_to_json(draw):
    for fields in draw.each(CARRIERS["pairs_to_json"]):
        record: dict[str, str | int] = {}
        for name, *values in fields:
            if len(values) == 2:
                record[name] = draw.randint(*values)
            else:
                left = [v for v in POOLS[values[0]] if v not in record.values()]
                record[name] = draw.choice(left)
        has, between = draw.choice([(": ", ", "), (" = ", "; "), (": ", "\n")])
        given = between.join(f"{name}{has}{value}" for name, value in record.items())
        kinds, pairs = {}, ""
        for name, value in record.items():
            kinds[name] = "number" if isinstance(value, int) else "string"
            pairs += rf'(?=.*"{name}"\s*:\s*{json.dumps(value)}\s*[,}}])'
        parts = [{"type": "json", "keys": kinds}]
        parts += [{"type": "regex", "pattern": f"(?s){pairs}.*"}]
        yield given, json.dumps(record), {"type": "all", "checks": parts}, {}


# what one knows


def neighbour(draw, step):
    days, months, letters = POOLS["days"], POOLS["months"], string.ascii_uppercase
    rounds = [draw.each(list(row)) for row in (days, months, letters[1:-1])]
    while True:
        for row, given in zip((days, months, letters), map(next, rounds), strict=True):
            answer = row[(row.index(given) + step) % len(row)]
            yield given, answer, says(answer), {}


@maker
def next_letter_or_day(draw):
    return neighbour(draw, 1)


@maker
def previous_letter_or_day(draw):
    return neighbour(draw, -1)


def known(kind, check):
    def make(draw):
        for word, *answers in draw.each(ITEMS[kind]):
            yield word, answers[0], check(*answers), {}

    MAKERS[kind] = make


for kind in ("plural", "opposite", "synonym"):
    known(kind, says)
for kind in ("capital_city", "country_of_capital"):
    known(kind, lambda *answers: holds(*answers, most=15))
