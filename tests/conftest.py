"""Small models for the tests of models, training and inference: no weights to fetch."""

from helpers import models

import peft
import pytest
import torch
import transformers


@pytest.fixture(scope="session")
def tokenizer():
    """Tiny's, with the template that models.load gives it."""
    return models.load("tiny")[1]


@pytest.fixture(scope="session")
def small(tokenizer):
    """small(tied=..., layers=..., ...) -> an untrained GPT-NeoX for that tokenizer."""

    def build(tied=True, layers=2, **shape):
        torch.manual_seed(0)
        shape = {"max_position_embeddings": 512, "intermediate_size": 64} | shape
        config = transformers.GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            tie_word_embeddings=tied,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **shape,
        )
        model = transformers.GPTNeoXForCausalLM(config).eval()
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        return model

    return build


@pytest.fixture(scope="session")
def start(small, tokenizer, tmp_path_factory):
    """A folder with such a model and its tokenizer; not to be written to."""
    folder = tmp_path_factory.mktemp("models") / "start"
    for part in (small(initializer_range=0.5), tokenizer):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(start, tmp_path_factory):
    """A folder with an adapter on it, as peft writes such; not to be written to."""
    torch.manual_seed(0)
    model = models.load(str(start))[0]
    shape = peft.LoraConfig(
        r=4,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_lora_weights=False,  # at random: answers change
    )
    folder = tmp_path_factory.mktemp("models") / "adapter"
    with models.silent():
        peft.get_peft_model(model, shape).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """For nets this small, threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
