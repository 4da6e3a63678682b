"""Templates: a conversation in, its text out, and which parts of it are to be learnt.

In: messages, as records.messages gives them, and a tokenizer that carries a chat
template (Jinja), the form that Transformers, TRL, vLLM, llama.cpp and Ollama read.
Out: text. An instruction-tuned model keeps its makers' template; a base model is given
one of ours. Knows nothing of token ids: text becomes ids in helpers.tokens.
"""

from __future__ import annotations

import bisect
import functools
import re
import warnings
from typing import NamedTuple

from jinja2 import TemplateError

QA = r"""
{%- for message in messages -%}
  {%- if message.role == 'user' -%}
    {{- '### Question:\n' + message.content + '\n\n' -}}
  {%- elif message.role == 'assistant' -%}
    {{- '### Answer:\n' + message.content + eos_token -}}
  {%- else -%}
    {{- message.content + '\n\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '### Answer:\n' -}}
{%- endif -%}"""

# The words are those of Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca; here a
# newline ends the prompt. What stands after the first blank line is the input.
ALPACA = r"""
{%- for message in messages -%}
  {%- if message.role == 'user' -%}
    {{- 'Below is an instruction that describes a task' -}}
    {%- if '\n\n' in message.content -%}
      {{- ', paired with an input that provides further context' -}}
    {%- endif -%}
    {{- '. Write a response that appropriately completes the request.' -}}
    {{- '\n\n### Instruction:\n' -}}
    {{- message.content.replace('\n\n', '\n\n### Input:\n', 1) + '\n\n' -}}
  {%- elif message.role == 'assistant' -%}
    {{- '### Response:\n' + message.content + eos_token -}}
  {%- else -%}
    {{- message.content + '\n\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '### Response:\n' -}}
{%- endif -%}"""

# As SmolLM2's makers wrote it, but for the system line that theirs adds by itself.
CHATML = r"""
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}"""

ALL = {"QA": QA, "ALPACA": ALPACA, "CHATML": CHATML}
BOS = "{{- bos_token -}}"
# Characters that no text may hold (Unicode, noncharacters), put in while a template is
# filled and taken out again: inside what looks like a control token; after a message.
MARK, END = "\ufdd0", "\ufdd1"


class Rendered(NamedTuple):
    """text; learnt: (start, end) of each part that is learnt, end of turn included;
    cuts: places that no token may span, such as those inside of what looks like a
    control token and is text all the same."""

    text: str
    learnt: list[tuple[int, int]]
    cuts: list[int]


def begins_with_bos(tokenizer) -> bool:
    """Whether a text of this family of models begins with the begin-of-text token."""
    ids = tokenizer("a").input_ids
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


def give(tokenizer, template: str) -> None:
    """Put a Jinja template into a tokenizer; warns where that takes its own away.

    One of ours opens with the begin-of-text token where the family's texts do.
    """
    if template in ALL.values() and begins_with_bos(tokenizer):
        template = BOS + template
    own = None if getattr(tokenizer, "given", False) else tokenizer.chat_template
    if own and own != template:
        warnings.warn(
            "another template takes the place of the model's own, in which it was "
            "tuned: its answers will be worse until it has learnt the new one",
            stacklevel=2,
        )
    tokenizer.chat_template = template
    tokenizer.given = not own


def render(messages: list[dict], tokenizer, learn: str = "all") -> Rendered:
    """The text of a conversation, by the tokenizer's template.

    learn: "all" turns of the assistant, or the "last"; of each its content and the
    token that ends the turn. A conversation without a user's turn is raw text: it
    stands without template, all of it learnt, end-of-text after it.
    Control tokens in a message are text: nobody can end a turn by writing them.
    Raises ValueError where the template refuses the conversation, or where its text
    does not show what the assistant said.
    """
    if learn not in ("all", "last"):
        raise ValueError(f"learn is {learn!r}: give 'all' (turns) or 'last'")
    marked = _mark(messages, tokenizer)
    if all(message["role"] == "assistant" for message in messages):
        begin = tokenizer.bos_token if begins_with_bos(tokenizer) else ""
        text = begin + "\n\n".join(m["content"] for m in marked) + tokenizer.eos_token
        raw = _unmark(text, [(len(begin), len(text))], tokenizer)
        # what follows begin-of-text is cut into words as if it began the text
        return raw._replace(cuts=[len(begin), *raw.cuts])
    text = _fill(marked, tokenizer)
    _, _, ends = _controls(tokenizer, str(tokenizer.chat_template))
    learnt = []
    for place in range(len(marked))[::-1]:  # the last turn first: it may change text
        last = place == len(marked) - 1
        if marked[place]["role"] != "assistant" or (learn == "last" and not last):
            continue
        opening = _fill(marked[:place], tokenizer, add_generation_prompt=True)
        if last and not text.startswith(opening):
            # Mistral's writes the system line only into a question that comes last
            asked = marked[place - 1]["content"].strip()
            asked += opening.rpartition(asked)[2]
            _, found, turn = text.rpartition(asked)
            text = opening + turn if found else text
        content = marked[place]["content"].rpartition(END)[0].lstrip() + END
        said = text.find(content, len(opening)) if text.startswith(opening) else -1
        if said < 0:
            raise ValueError(
                f"message {place + 1}: the model's template writes this turn in "
                "another way than it opens one to be answered, so what is to be learnt "
                f"cannot be told: {'' if last else 'learn the last turn only, or '}"
                "give another template"
            )
        said += len(content)
        end = ends.search(text, said) if last else ends.match(text, said)
        if last and end is None:  # a template that ends no turn
            text = text.rstrip() + tokenizer.eos_token
            end = ends.search(text, said)
        learnt.insert(0, (len(opening), end.end() if end else said))
    return _unmark(text, learnt, tokenizer)


def prompt(messages: list[dict], tokenizer) -> Rendered:
    """The text that a model is given to answer, as a chat server writes it.

    Raises ValueError where the template refuses the conversation.
    Built by hand in lesson 03, "A template"; that of Alpaca in lesson 04, "Alpaca, row
    by row".
    """
    marked = _mark(messages, tokenizer)
    text = _fill(marked, tokenizer, add_generation_prompt=True)
    return _unmark(text, [], tokenizer)


def end_of_turn(tokenizer) -> str:
    """The token that ends a turn of the assistant, such as <|im_end|>."""
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "¶"}]
    text, ((_, end),), _ = render(talk, tokenizer)
    return text[:end].rpartition("¶")[2].strip()


def _fill(messages: list[dict], tokenizer, **options) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except (TemplateError, TypeError) as error:
        raise ValueError(
            f"the model's template refuses this conversation: {error}"
        ) from None


@functools.lru_cache(maxsize=16)
def _controls(tokenizer, template: str) -> tuple[re.Pattern, re.Pattern, re.Pattern]:
    """Patterns of the tokens that are more than text: where one begins in what a user
    wrote, the same for the assistant (whose <think> and the like stay tokens), and
    what ends a turn.

    Such are special tokens, and those that the template writes.
    """
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special}
    longer = {token.content for token in added if len(token.content.strip()) > 1}
    control = special | {token for token in longer if token in template}

    def any_of(tokens):
        return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)"

    def begins(tokens):  # looks at few places only: some models have 6,000 of them
        first = "".join({re.escape(token[0]) for token in tokens}) or "a"
        return re.compile(f"(?=[{first}])(?=({any_of(tokens)})).", re.DOTALL)

    return begins(control), begins(special), re.compile(rf"\s*(?:{any_of(control)})")


def _mark(messages: list[dict], tokenizer) -> list[dict]:
    """Messages with MARK after the first character of each would-be control token, and
    END where their text ends."""
    user, assistant, _ = _controls(tokenizer, str(tokenizer.chat_template))
    marked = []
    for message in messages:
        begin = assistant if message["role"] == "assistant" else user
        content = re.sub(f"[{MARK}{END}]", "", message["content"])
        text = begin.sub(rf"\g<0>{MARK}", content.rstrip())
        after = content[len(content.rstrip()) :]
        marked.append({**message, "content": text + END + after})
    return marked


def _unmark(text: str, learnt: list[tuple[int, int]], tokenizer) -> Rendered:
    """Without the marks; cut at each MARK, and where a message ends inside of a token,
    which it began and its template happened to end."""
    user, _, _ = _controls(tokenizer, str(tokenizer.chat_template))
    marks = [match.start() for match in re.finditer(f"[{MARK}{END}]", text)]
    clean, cuts = re.sub(f"[{MARK}{END}]", "", text), []

    def moved(place: int) -> int:
        return place - bisect.bisect_left(marks, place)

    for mark in marks:
        place = moved(mark)
        around = user.finditer(clean, max(0, place - 99), place + 99)
        if text[mark] == MARK or any(m.start() < place < m.end(1) for m in around):
            cuts.append(place)
    return Rendered(clean, [(moved(start), moved(end)) for start, end in learnt], cuts)
