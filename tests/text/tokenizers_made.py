"""Small tokenizers, made by the library itself in the shapes that checkpoints have them in."""

import json

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "def add(a, b):\n    return a + b\n",
    "The quick brown fox doesn't jump over 13 lazy dogs. Does it?",
    "naïve façade — 素朴な文字列 и кириллица 🙂👩‍🚀 a\tb\r\n",
] * 3

SAMPLES = [
    "",
    " ",
    "def add(a, b):\n    return a + b\n",
    "  two  spaces, and\ta tab\n\n",
    "naïve ≠ 素朴 🙂 👩‍🚀 ‏עברית हिन्दी",
    "unseen: ߷ ꙮ \u0000\x7f end ",
]


def byte_level():
    """As GPT-2 and Llama 3 have it: bytes below merges, a token that begins a text, one that ends a turn."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|begin|>", "<|end|>", "<|mask|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.add_tokens(["<tool> "])  # an added token that is text
    made.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", made.token_to_id("<|begin|>"))]
    )
    return made


def word_pieces():
    """As BERT has it."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = processors.BertProcessing(
        ("[SEP]", made.token_to_id("[SEP]")), ("[CLS]", made.token_to_id("[CLS]"))
    )
    return made


def byte_fallback():
    """As Llama 2 and Gemma have it: marks for spaces, bytes for what has no token, a space put before the text."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
        limit_alphabet=30,
    )
    made.train_from_iterator([line.replace(" ", "▁") for line in CORPUS], trainer)
    held = json.loads(made.to_str())
    for token in held["added_tokens"]:
        token["special"] = token["content"] in ("<unk>", "<s>", "</s>")
    made = tokenizers.Tokenizer.from_str(json.dumps(held))
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    return made


def metaspace():
    """As the conversions of sentencepiece have it, without bytes."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


KINDS = {
    "byte level": byte_level,
    "word pieces": word_pieces,
    "byte fallback": byte_fallback,
    "metaspace": metaspace,
}


def save(folder, made, config=None, **files):
    """Writes a folder as checkpoints have it; `files` are texts by names without their ending."""
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / f"{name}.jinja").write_text(content)
    return folder
