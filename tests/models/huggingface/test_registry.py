"""Which file reads a configuration, and the table of them."""

import pytest

from jaxdec.models import huggingface
from jaxdec.models.huggingface.__main__ import PAGE, rendered


def test_every_type_is_read_by_one_file():
    """Where two name the same type, the fields tell which."""
    known = huggingface.architectures()
    for name, architecture in known.items():
        assert architecture.name == name
        for kind in architecture.model_types:
            for more in ({}, {"num_experts": 4}):
                fields = {"model_type": kind, **more}
                readers = [a for a in known.values() if kind in a.model_types and a.reads(fields)]
                assert len(readers) <= 1
                if readers:
                    assert huggingface.of_fields(fields) is readers[0]
    assert huggingface.of_fields({"model_type": "llada"}).name == "llada"
    assert huggingface.of_fields({"model_type": "llada", "num_experts": 4}).name == "llada_moe"


def test_the_table_of_the_documentation_is_that_of_the_files():
    page = PAGE.read_text()
    assert page == rendered(page), "python -m jaxdec.models.huggingface --write"


def test_a_name_or_type_that_there_is_not():
    with pytest.raises(ValueError, match="there is no architecture 'lama'; there are llama"):
        huggingface.named("lama")
    with pytest.raises(ValueError, match=r"model_type 'rwkv' is not supported, only .*llama"):
        huggingface.of_fields({"model_type": "rwkv"})
