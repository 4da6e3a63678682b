"""Templates: a record in, a prompt and its completion out, as plain text.

In: a dict in one of the forms of helpers.records.  Out: {"prompt", "completion"}.
Knows nothing of tokens; the end-of-text token is added in helpers.tokens.

Two rules make the seam between prompt and completion safe to tokenise apart:
a prompt ends in a newline (or is empty), and a completion has no white space at its
ends. Byte-level tokenizers never join a single newline with a letter or digit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers import records

# "<|im_end|>" inside a question would end the customer's turn: such text is refused.
# The others are SmolLM2's: they would vanish from its answers without a word.
CONTROL = re.compile(
    r"<\|\w+\|>|<(?:filename|reponame|repo_name|file_sep|gh_stars|empty_output"
    r"|issue_\w+|jupyter_\w+)>"
)


@dataclass(frozen=True)
class Template:
    """How a record becomes text.

    name: what the template is called in a tuned model's config.
    opening: text before the prompt; closing: text between it and the completion.
    with_input: the middle for records with an input; {instruction} and {input} in it.
    """

    name: str
    opening: str
    closing: str
    with_input: str
    opening_with_input: str | None = None

    def prompt(self, record: dict) -> str:
        """The text a model is given for this record, up to where its answer begins.

        A record with only `text` has an empty prompt: all of it is learnt.
        Raises ValueError for unknown fields, non-text values and control tokens.
        """
        found = records.form(record)
        if found is None:
            has = ", ".join(map(repr, record)) or "nothing"
            raise ValueError(
                f"record has the fields {has}: needs one of {records.FORM_NAMES}"
            )
        values = [_clean(record, name) for name in found[0]]
        if not values:
            return ""
        if len(values) == 2 and values[1]:
            opening = self.opening_with_input or self.opening
            # one pass over the pattern: braces inside a record's text stay as they are
            fill = dict(zip(("{instruction}", "{input}"), values, strict=True))
            middle = re.sub(
                r"\{instruction\}|\{input\}", lambda m: fill[m[0]], self.with_input
            )
        else:
            opening, middle = self.opening, values[0]
        return opening + middle + self.closing

    def example(self, record: dict) -> dict[str, str]:
        """One training example: {"prompt", "completion"}; the completion is the answer.

        Raises ValueError as `prompt` does, and when the record has no answer.
        """
        prompt = self.prompt(record)
        answer = records.form(record)[1]
        if answer is None:
            raise ValueError(
                f"record has no answer, only {', '.join(map(repr, record))}: "
                f"needs one of {records.FORM_NAMES}"
            )
        completion = _clean(record, answer)
        if not completion:
            raise ValueError(f"{answer!r} is blank: there is nothing to learn")
        return {"prompt": prompt, "completion": completion}

    def fits(self, prompt: str) -> bool:
        """Whether a prompt was made by this template."""
        openings = (self.opening, self.opening_with_input or self.opening)
        return prompt.endswith(self.closing) and prompt.startswith(openings)


def _clean(record: dict, name: str) -> str:
    """A field's text without white space at its ends."""
    value = record[name]
    if value is None and name == "input":
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is {type(value).__name__}, not text: {value!r}")
    if found := CONTROL.search(value):
        raise ValueError(
            f"{name!r} holds the control token {found[0]!r}: take it out of the text"
        )
    return value.strip()


QA = Template(
    name="QA",
    opening="### Question:\n",
    with_input="{instruction}\n\n{input}",
    closing="\n\n### Answer:\n",
)

# Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca; a newline ends the prompt
ALPACA = Template(
    name="ALPACA",
    opening=(
        "Below is an instruction that describes a task. Write a response that "
        "appropriately completes the request.\n\n### Instruction:\n"
    ),
    opening_with_input=(
        "Below is an instruction that describes a task, paired with an input that "
        "provides further context. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\n"
    ),
    with_input="{instruction}\n\n### Input:\n{input}",
    closing="\n\n### Response:\n",
)

# ChatML as SmolLM2-Instruct was taught it, its makers' system line included
CHAT = Template(
    name="CHAT",
    opening=(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
        "Hugging Face<|im_end|>\n<|im_start|>user\n"
    ),
    with_input="{instruction}\n\n{input}",
    closing="<|im_end|>\n<|im_start|>assistant\n",
)

ALL = {template.name: template for template in (QA, ALPACA, CHAT)}


def recognise(prompts: list[str]) -> str | None:
    """The name of the one template that made all these prompts, or None."""
    for template in ALL.values():
        if prompts and all(template.fits(prompt) for prompt in prompts):
            return template.name
    return None
