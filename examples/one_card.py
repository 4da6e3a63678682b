"""A model of some 7 billion weights on one card, by TRL and peft.

    python examples/one_card.py --model Qwen/Qwen2.5-7B-Instruct --four-bits \\
        --data mine.jsonl --output outputs/mine

--data takes any file that the course takes. --four-bits keeps the frozen weights in 4
bits (QLoRA, Dettmers et al. 2023) and needs `pip install bitsandbytes`. What is trained
stays in float32. On a CUDA card the arithmetic is bfloat16, elsewhere float32, for
small models only: with --model tiny and --steps 3 the script is tried out in seconds,
on any machine.
"""

from __future__ import annotations

import argparse

from helpers import models, records

import datasets
import peft
import torch
import transformers
import trl

LORA = peft.LoraConfig(
    r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
)


def load(name: str, four_bits: bool):
    """A model, its frozen weights in 4 bits if wanted, and its tokenizer."""
    if name == "tiny":  # its tokenizer needs the template that the course gives it
        return models.load(name)
    folder = models.folder_of(name)
    source = str(folder) if folder.is_dir() else name
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    kind = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source,
        dtype=dtype,
        use_safetensors=True,
        **({"quantization_config": kind} if four_bits else {}),
        **({"device_map": {"": 0}} if cuda else {}),
    )
    return model, transformers.AutoTokenizer.from_pretrained(source)


def pairs(path: str) -> datasets.Dataset:
    """Prompt and completion as messages: TRL then learns the completion alone."""
    rows = records.read(path)
    talks = [records.messages(row) for row in rows]
    return datasets.Dataset.from_list(
        [{"prompt": talk[:-1], "completion": talk[-1:]} for talk in talks]
    )


def trainer_of(model, tokenizer, options: argparse.Namespace) -> trl.SFTTrainer:
    """TRL's trainer of an adapter, the adapter in float32."""
    cuda = torch.cuda.is_available()
    settings = trl.SFTConfig(
        output_dir=options.output,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        max_steps=options.steps,
        per_device_train_batch_size=options.at_once,
        gradient_accumulation_steps=options.pieces,
        activation_checkpointing=True,
        warmup_steps=0.1 if options.steps < 0 else 0,  # a tenth, save in a trial
        max_length=options.max_length,
        bf16=cuda,
        use_cpu=not cuda,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    trainer = trl.SFTTrainer(
        model=model,
        args=settings,
        train_dataset=pairs(options.data),
        processing_class=tokenizer,
        peft_config=LORA,
    )
    kept, rows = len(trainer.train_dataset), len(records.read(options.data))
    print(
        f"{kept} of {rows} rows kept; what is over {options.max_length} tokens is cut"
    )
    # TRL 1.16 keeps the adapter of a 4-bit model in bfloat16; float32 costs little
    for weight in trainer.model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return trainer


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", required=True, help="tiny, smollm2, a folder, or a hub id")
    add("--data", required=True, help="a file of questions and answers")
    add("--output", required=True, help="folder for the adapter")
    add("--four-bits", action="store_true", help="of the frozen weights (QLoRA)")
    add("--learning-rate", type=float, default=3e-4, help="the highest")
    add("--epochs", type=int, default=3, help="times through the data")
    add("--steps", type=int, default=-1, help="stop after so many")
    add("--max-length", type=int, default=1024, help="tokens of a row")
    add("--at-once", type=int, default=4, help="rows on the card at a time")
    add("--pieces", type=int, default=4, help="of --at-once rows in a step")
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    model, tokenizer = load(options.model, options.four_bits)
    trainer = trainer_of(model, tokenizer, options)
    trainer.train()
    # with the embeddings, peft would ask the hub for those of the base
    trainer.model.save_pretrained(options.output, save_embedding_layers=False)
    tokenizer.save_pretrained(options.output)
    print(f"the adapter is in {options.output}")


if __name__ == "__main__":
    main()
