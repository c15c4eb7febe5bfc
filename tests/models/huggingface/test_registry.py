"""Which file reads a configuration, and the table of them."""

import pytest

from jaxdec.models import huggingface
from jaxdec.models.huggingface.__main__ import PAGE, rendered


def test_every_type_is_read_by_one_file():
    types = [kind for a in huggingface.architectures().values() for kind in a.model_types]
    assert len(types) == len(set(types))
    for name, architecture in huggingface.architectures().items():
        assert architecture.name == name
        for kind in architecture.model_types:
            assert huggingface.of_fields({"model_type": kind}) is architecture


def test_the_table_of_the_documentation_is_that_of_the_files():
    page = PAGE.read_text()
    assert page == rendered(page), "python -m jaxdec.models.huggingface --write"


def test_a_name_or_type_that_there_is_not():
    with pytest.raises(ValueError, match="there is no architecture 'lama'; there are llama"):
        huggingface.named("lama")
    with pytest.raises(ValueError, match=r"model_type 'rwkv' is not supported, only .*llama"):
        huggingface.of_fields({"model_type": "rwkv"})
