"""Small models for the tests of models, training and inference: no weights to fetch."""

import pytest
import torch
import transformers

from helpers import models


@pytest.fixture(scope="session")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(models.TINY)


@pytest.fixture
def small(tokenizer):
    """small(tied=…, layers=…) -> an untrained GPT-NeoX for tiny's tokenizer."""

    def build(tied=True, layers=2):
        torch.manual_seed(0)
        config = transformers.GPTNeoXConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = transformers.GPTNeoXForCausalLM(config).eval()
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        return model

    return build


@pytest.fixture(scope="module")
def one_thread():
    """For nets this small, threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
