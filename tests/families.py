"""Small models in the shape of the families that people tune, made at test time.

Random weights, a tokenizer learnt from a few lines, and what tells families apart: the
special tokens, how a text is cut into pieces, whether it begins with a begin-of-text
token, the class that the tokenizer says it is of (which transformers may make anew from
the vocabulary), and the chat template, written here after its makers' description.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from helpers import models

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import models as kinds

TEXT = [
    "The mast is two metres high, and the base of the station is ten centimetres wide.",
    "Is it on? Yes, it is. How high is it? Who made it? Larkfield made the Kestrel.",
    "You are a helpful assistant. Be short. Answer in one word: 0071, 42, 5 or 2026.",
    "### Question:\nWhat does it cost?\n\n### Answer:\nIt costs 199 pounds, user.",
] * 8
PIECES = (  # of tiktoken; Qwen takes digits one by one
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

HEADERS = (  # Llama 3: the text is trimmed, two newlines after the header
    "{{- bos_token }}{%- for m in messages %}{{- '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
QWEN2 = (  # ChatML with a system line where none is given
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + "
    "'<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
QWEN3 = (  # a thought, if empty, before the last answer, none before those of history
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}"
    "{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}"
    "{%- endfor %}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- set said = m.content %}{%- if m.role == 'assistant' %}{%- set thought = '' %}"
    "{%- if '</think>' in said %}"
    "{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set said = said.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
    "{%- if loop.index0 > ns.last %}"
    "{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}{%- endif %}"
    "{{- said + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
GEMMA = (  # the system line goes into the first turn; the assistant is called model
    "{{- bos_token }}{%- set ns = namespace(first='') %}"
    "{%- if messages[0].role == 'system' %}"
    "{%- set ns.first = messages[0].content + '\n\n' %}{%- set talk = messages[1:] %}"
    "{%- else %}{%- set talk = messages %}{%- endif %}{%- for m in talk %}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Conversation roles must alternate') }}{%- endif %}"
    "{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + "
    "(ns.first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<start_of_turn>model\n' }}{%- endif %}"
)
MISTRAL = (  # the system line goes into a question only while that comes last
    "{{- bos_token }}{%- if messages[0].role == 'system' %}"
    "{%- set line = messages[0].content + '\n\n' %}{%- set talk = messages[1:] %}"
    "{%- else %}{%- set line = '' %}{%- set talk = messages %}{%- endif %}"
    "{%- for m in talk %}{%- if m.role == 'user' %}"
    "{{- '[INST] ' + (line if loop.last else '') + m.content + '[/INST]' }}"
    "{%- else %}{{- ' ' + m.content | trim + eos_token }}{%- endif %}{%- endfor %}"
)
PHI = (  # <|end|> ends a turn, end-of-text the conversation
    "{%- for m in messages %}"
    "{{- '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}"
    "{%- else %}{{- eos_token }}{%- endif %}"
)
GRANITE = (
    "{%- for m in messages %}{{- '<|start_of_role|>' + m.role + '<|end_of_role|>' + "
    "m.content + '<|end_of_text|>\n' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)
OLMO = (  # roles are plain text; a newline follows each end of a turn but the last
    "{{- bos_token }}{%- for m in messages %}{{- '<|' + m.role + '|>\n' + m.content }}"
    "{%- if m.role == 'assistant' %}{{- eos_token + ('' if loop.last else '\n') }}"
    "{%- else %}{{- '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"
)
SMOLLM2 = QWEN2.replace(
    "You are a helpful assistant.",
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
)


class Family(NamedTuple):
    """kind, of the model, and tokenizer: classes of transformers; special: tokens; way:
    how texts are cut, `+bos` where they begin with that token."""

    kind: str
    tokenizer: str
    special: str
    bos: str | None
    eos: str
    pad: str | None
    way: str
    template: str | None


LLAMA = "<|begin_of_text|>"
END = "<|endoftext|>"
CHATML = f"{END} <|im_start|> <|im_end|>"
FAMILIES = {
    "llama-3": Family(
        "Llama",
        "PreTrainedTokenizerFast",
        f"{LLAMA} <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>",
        LLAMA,
        "<|eot_id|>",
        None,
        "tiktoken+bos",
        HEADERS,
    ),
    "llama-base": Family(
        "Llama",
        "PreTrainedTokenizerFast",
        f"{LLAMA} <|end_of_text|>",
        LLAMA,
        "<|end_of_text|>",
        None,
        "tiktoken+bos",
        None,
    ),
    "qwen-2.5": Family(
        "Qwen2", "Qwen2Tokenizer", CHATML, None, "<|im_end|>", END, "qwen", QWEN2
    ),
    "qwen-3": Family(
        "Qwen3", "Qwen2Tokenizer", CHATML, None, "<|im_end|>", END, "qwen", QWEN3
    ),
    "gemma-3": Family(
        "Gemma3Text",
        "GemmaTokenizer",
        "<pad> <eos> <bos> <unk> <mask> <start_of_turn> <end_of_turn>",
        "<bos>",
        "<eos>",
        "<pad>",
        "spaces+bos",
        GEMMA,
    ),
    "mistral": Family(
        "Mistral",
        "LlamaTokenizer",
        "<unk> <s> </s> [INST] [/INST]",
        "<s>",
        "</s>",
        None,
        "metaspace+bos",
        MISTRAL,
    ),
    "phi-3": Family(
        "Phi3",
        "LlamaTokenizer",
        f"<unk> <s> </s> {END} <|system|> <|user|> <|assistant|> <|end|>",
        "<s>",
        END,
        END,
        "prepend",
        PHI,
    ),
    "granite": Family(
        "Granite",
        "GPT2Tokenizer",
        "<|end_of_text|> <|start_of_role|> <|end_of_role|>",
        "<|end_of_text|>",
        "<|end_of_text|>",
        "<|end_of_text|>",
        "digits",
        GRANITE,
    ),
    "olmo-2": Family(
        "Olmo2",
        "GPT2Tokenizer",
        f"{END} <|pad|>",
        END,
        END,
        "<|pad|>",
        "tiktoken",
        OLMO,
    ),
    "gpt-2": Family("GPT2", "GPT2Tokenizer", END, END, END, None, "gpt2", None),
    "gpt-neox": Family(
        "GPTNeoX",
        "GPTNeoXTokenizer",
        f"{END} <|padding|>",
        END,
        END,
        None,
        "neox",
        None,
    ),
    "smollm2": Family(
        "Llama",
        "GPT2Tokenizer",
        CHATML,
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
        "digits",
        SMOLLM2,
    ),
}


def tokenizer(name: str) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer of about 600 words in the shape of the family."""
    family = FAMILIES[name]
    special = family.special.split()
    way, _, begins = family.way.partition("+")
    sentencepiece = way in ("spaces", "metaspace", "prepend")
    unk = "<unk>" if sentencepiece else None
    core = Tokenizer(kinds.BPE(byte_fallback=sentencepiece, unk_token=unk))
    codes = [f"<0x{byte:02X}>" for byte in range(256)] if sentencepiece else []
    trainer = trainers.BpeTrainer(
        vocab_size=600 + len(codes),
        special_tokens=special + codes,
        initial_alphabet=[] if codes else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    if codes:
        space = decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()
        strip = [] if way == "spaces" else [decoders.Strip(" ", 1, 0)]
        core.decoder = decoders.Sequence([*space, *strip])
        core.normalizer = normalizers.Replace(" ", "▁")
        core.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    else:
        core.decoder = decoders.ByteLevel()
        core.pre_tokenizer = _bytes(way)
        core.normalizer = normalizers.NFC() if way in ("qwen", "neox") else None
        trims = way in ("digits", "neox")  # offsets without the space before a word
        core.post_processor = processors.ByteLevel(trim_offsets=trims)
    core.train_from_iterator(TEXT, trainer)
    core = _as_kept(core, way, codes)
    if name == "gemma-3":  # newlines are tokens of their own
        core.add_tokens([AddedToken(t, normalized=False) for t in ("\n", "\n\n")])
    if name == "qwen-3":
        thoughts = "<think>", "</think>", "<tool_call>"
        core.add_tokens([AddedToken(t, normalized=False) for t in thoughts])
    if name == "gpt-neox":  # as are runs of spaces
        core.add_tokens([AddedToken(" " * n, normalized=True) for n in (4, 3, 2)])
    if begins:
        core.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            special_tokens=[(family.bos, core.token_to_id(family.bos))],
        )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.pad,
        unk_token=unk,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = family.template
    return made


def _bytes(way: str):
    """How byte-level tokenizers cut a text into words."""
    if way in ("gpt2", "neox"):
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if way == "digits":
        level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(True), level])
    pattern = Regex(PIECES if way == "tiktoken" else PIECES.replace("{1,3}", ""))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), level])


def _as_kept(core: Tokenizer, way: str, codes: list[str]) -> Tokenizer:
    """With what is unlike in use: bytes are pieces of texts, no control tokens; words
    are not cut first; Phi's tokens take the white space that follows them."""
    state = json.loads(core.to_str())
    added = [token for token in state["added_tokens"] if token["content"] not in codes]
    for token in added:
        token["rstrip"] = way == "prepend" and token["content"].startswith("<|")
    core = Tokenizer.from_str(json.dumps(state | {"added_tokens": added}))
    if way == "spaces":
        core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    if way == "prepend":
        first = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        core.normalizer, core.pre_tokenizer = normalizers.Sequence(first), None
    if way == "metaspace":
        scheme = {"prepend_scheme": "first", "split": False}
        core.normalizer, core.pre_tokenizer = None, pre_tokenizers.Metaspace(**scheme)
    return core


def build(name: str, folder: Path) -> Path:
    """Save a model of random weights and its tokenizer; returns the folder."""
    made = tokenizer(name)
    family = FAMILIES[name]
    shape = {
        "vocab_size": len(made),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "bos_token_id": made.bos_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
    }
    if family.kind in ("Gemma3Text", "Phi3"):
        shape["sliding_window"] = 32
    if family.kind in ("GPT2", "GPTNeoX"):
        del shape["num_key_value_heads"], shape["head_dim"]
    if family.kind == "GPT2":
        shape |= {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512}
        del shape["intermediate_size"]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family.kind}Config")(**shape)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with models.silent():
        model.save_pretrained(folder)
    made.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": family.tokenizer}
    path.write_text(json.dumps(settings))
    return folder
