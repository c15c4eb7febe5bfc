"""What a checkpoint proposes: the tokens that end a text, and settings of `jaxdec.generate`."""

import json

import jax.numpy as jnp
import pytest

import jaxdec
from jaxdec.models import huggingface
from tests.models.huggingface import tiny
from tests.models.huggingface.test_round_trips import random_params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    fields = tiny.fields("gpt2")
    architecture = huggingface.of_fields(fields)
    config = architecture.config(fields)
    path = tmp_path_factory.mktemp("checkpoint") / "held"
    huggingface.save(
        path, random_params(architecture, config, jnp.float32), config, "gpt2", eos=[7]
    )
    return path


GREEDY = {"temperature": 0.0}
PROPOSED = [
    # generation_config.json, the tokens that end a text, settings
    (None, (7,), GREEDY),
    ({}, (7,), GREEDY),
    ({"eos_token_id": [5, 9]}, (5, 9), GREEDY),
    ({"eos_token_id": 5, "temperature": 0.6, "max_new_tokens": 40}, (5,), {**GREEDY, "max_new_tokens": 40}),
    (
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": None, "repetition_penalty": 1.05},
        (7,),
        {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05},
    ),
    ({"do_sample": True, "typical_p": 0.5, "epsilon_cutoff": 0.01}, (7,), {"typical": 0.5, "epsilon": 0.01}),
]  # fmt: skip


@pytest.mark.parametrize(("proposed", "eos", "defaults"), PROPOSED)
def test_what_a_checkpoint_proposes(folder, proposed, eos, defaults):
    file = folder / "generation_config.json"
    file.unlink(missing_ok=True)
    if proposed is not None:
        file.write_text(json.dumps(proposed))
    model, _, _, given = jaxdec.load(folder)
    assert (model.eos, given) == (eos, defaults)


def test_a_token_that_is_no_token_is_refused(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 64]}))
    with pytest.raises(ValueError, match="eos_token_id holds 64, not tokens from 0 to 63"):
        jaxdec.load(folder)
