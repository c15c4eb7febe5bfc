"""Antibody sequences as prompts: in IgLM's own format, and as windows with masked residues for AntiBERTy.

Variable domains of antibodies in medical use, one letter a residue: prompts, and no reference, since they were not
checked against their entries and a residue may differ. Those of one antibody share a framework with others: errors are
taken over sequences, not over prompts.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from benchmarks.columns import Row
from benchmarks.fills import entropy
from benchmarks.workload import Gaps, Prompts

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@dataclasses.dataclass(frozen=True)
class Domain:
    """A variable domain.

    Attributes:
      name: of the antibody.
      chain: tag of the chain.
      species: tag of the species.
      sequence: its residues.
    """

    name: str
    chain: str
    species: str
    sequence: str


def _pair(name: str, species: str, heavy: str, light: str) -> tuple[Domain, Domain]:
    return Domain(name, "[HEAVY]", species, heavy), Domain(name, "[LIGHT]", species, light)


DOMAINS = (
    *_pair(
        "trastuzumab",
        "[HUMAN]",
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS",
        "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQGTKVEIK",
    ),
    *_pair(
        "adalimumab",
        "[HUMAN]",
        "EVQLVESGGGLVQPGRSLRLSCAASGFTFDDYAMHWVRQAPGKGLEWVSAITWNSGHIDYADSVEGRFTISRDNAKNSLYLQMNSLRAEDTAVYYCAKVSYLSTASSLDYWGQGTLVTVSS",
        "DIQMTQSPSSLSASVGDRVTITCRASQGIRNYLAWYQQKPGKAPKLLIYAASTLQSGVPSRFSGSGSGTDFTLTISSLQPEDVATYYCQRYNRAPYTFGQGTKVEIK",
    ),
    *_pair(
        "rituximab",
        "[MOUSE]",
        "QVQLQQPGAELVKPGASVKMSCKASGYTFTSYNMHWVKQTPGRGLEWIGAIYPGNGDTSYNQKFKGKATLTADKSSSTAYMQLSSLTSEDSAVYYCARSTYYGGDWYFNVWGAGTTVTVSA",
        "QIVLSQSPAILSASPGEKVTMTCRASSSVSYIHWFQQKPGSSPKPWIYATSNLASGVPVRFSGSGSGTSYSLTISRVEAEDAATYYCQQWTSNPPTFGGGTKLEIK",
    ),
    *_pair(
        "bevacizumab",
        "[HUMAN]",
        "EVQLVESGGGLVQPGGSLRLSCAASGYTFTNYGMNWVRQAPGKGLEWVGWINTYTGEPTYAADFKRRFTFSLDTSKSTAYLQMNSLRAEDTAVYYCAKYPHYYGSSHWYFDVWGQGTLVTVSS",
        "DIQMTQSPSSLSASVGDRVTITCSASQDISNYLNWYQQKPGKAPKVLIYFTSSLHSGVPSRFSGSGSGTDFTLTISSLQPEDFATYYCQQYSTVPWTFGQGTKVEIK",
    ),
    *_pair(
        "cetuximab",
        "[MOUSE]",
        "QVQLKQSGPGLVQPSQSLSITCTVSGFSLTNYGVHWVRQSPGKGLEWLGVIWSGGNTDYNTPFTSRLSINKDNSKSQVFFKMNSLQSNDTAIYYCARALTYYDYEFAYWGQGTLVTVSA",
        "DILLTQSPVILSVSPGERVSFSCRASQSIGTNIHWYQQRTNGSPRLLIKYASESISGIPSRFSGSGSGTDFTLSINSVESEDIADYYCQQNNNWPTTFGAGTKLELK",
    ),
    *_pair(
        "pembrolizumab",
        "[HUMAN]",
        "QVQLVQSGVEVKKPGASVKVSCKASGYTFTNYYMYWVRQAPGQGLEWMGGINPSNGGTNFNEKFKNRVTLTTDSSTTTAYMELKSLQFDDTAVYYCARRDYRFDMGFDYWGQGTTVTVSS",
        "EIVLTQSPATLSLSPGERATLSCRASKGVSTSGYSYLHWYQQKPGQAPRLLIYLASYLESGVPARFSGSGSGTDFTLTISSLEPEDFAVYYCQHSRDLPLTFGGGTKVEIK",
    ),
    *_pair(
        "nivolumab",
        "[HUMAN]",
        "QVQLVESGGGVVQPGRSLRLDCKASGITFSNSGMHWVRQAPGKGLEWVAVIWYDGSKRYYADSVKGRFTISRDNSKNTLFLQMNSLRAEDTAVYYCATNDDYWGQGTLVTVSS",
        "EIVLTQSPATLSLSPGERATLSCRASQSVSSYLAWYQQKPGQAPRLLIYDASNRATGIPARFSGSGSGTDFTLTISSLEPEDFAVYYCQQSSNWPRTFGQGTKVEIK",
    ),
    Domain(
        "anti-tissue factor (1JPT)",
        "[HEAVY]",
        "[HUMAN]",
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKEYYMHWVRQAPGKGLEWVGLIDPEQGNTIYDPKFQDRATISADNSKNTAYLQMNSLRAEDTAVYYCARDTAAYFDYWGQGTLVTVS",
    ),
    Domain(
        "caplacizumab",
        "[HEAVY]",
        "[CAMEL]",
        "EVQLVESGGGLVQPGGSLRLSCAASGRTFSYNPMGWFRQAPGKGRELVAAISRTGGSTYYPDSVEGRFTISRDNAKRMVYLQMNSLRAEDTAVYYCAAAGVRAEDGRVRTLPSEYTFWGQGTQVTVSS",
    ),
)
FORMS = ("begun", "first loop", "third loop", "middle")
"""What is asked for: the rest of a domain from two fifths of it or from the first loop on, or a masked span of it."""


def words(domain: Domain, form: str) -> list[str]:
    """A prompt in IgLM's format: chain, species, residues; with a span `[MASK]`ed and asked for behind `[SEP]`."""
    tags, residues = [domain.chain, domain.species], list(domain.sequence)
    size = len(residues)
    if form == "begun":
        return tags + residues[: 2 * size // 5]
    if form == "first loop":
        return tags + residues[:32]
    low, high = (0.81, 0.9) if form == "third loop" else (0.4, 0.55)
    low, high = round(low * size), round(high * size)
    return [*tags, *residues[:low], "[MASK]", *residues[high:], "[SEP]"]


def prompts(
    numbers: dict[str, int], count: int, forms: Sequence[str] = FORMS
) -> tuple[Prompts, np.ndarray]:
    """Prompts of all forms and domains in turn, and the domain of each, int `[N]`.

    Args:
      numbers: the vocabulary.
      count: N, at most one a form and domain.
      forms: of them.
    """
    asked = [(i, form) for form in forms for i in range(len(DOMAINS))]
    # A stride that has no factor with their number, so that few prompts are of many kinds.
    asked = [asked[13 * place % len(asked)] for place in range(min(count, len(asked)))]
    rows = [[numbers[word] for word in words(DOMAINS[i], form)] for i, form in asked]
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int32)
    for row, held in zip(tokens, rows, strict=True):
        row[: len(held)] = held
    return Prompts(tokens, lengths), np.array([i for i, _ in asked])


def banned(numbers: dict[str, int], *allowed: str) -> np.ndarray:
    """All tokens but residues and those that are allowed too, bool `[V]`."""
    found = np.ones(len(numbers), bool)
    found[[numbers[word] for word in (*RESIDUES, *allowed)]] = False
    return found


def windows(numbers: dict[str, int], count: int, masked: int) -> tuple[Gaps, np.ndarray]:
    """Domains between `[CLS]` and `[SEP]`, with as many residues masked one by one at random.

    Returns:
      The windows, and the domain of each, int `[N]`.
    """
    chosen, of = np.random.default_rng(0), np.arange(count) % len(DOMAINS)
    sizes = np.array([len(DOMAINS[i].sequence) + 2 for i in of])
    tokens = np.zeros((count, sizes.max()), np.int32)
    visible = np.ones(tokens.shape, bool)  # also past the end, where nothing is filled
    for row, (i, size) in enumerate(zip(of, sizes, strict=True)):
        tokens[row, :size] = [numbers[word] for word in ("[CLS]", *DOMAINS[i].sequence, "[SEP]")]
        visible[row, 1 + chosen.choice(size - 2, masked, replace=False)] = False
    return Gaps(tokens, visible, sizes), of


def error(values: Sequence[float], of: np.ndarray) -> float | None:
    """The standard error of the mean of values, whose sequences `of` are independent and they are not."""
    held = np.array([np.mean(np.asarray(values)[of == i]) for i in np.unique(of)])
    return float(held.std(ddof=1) / math.sqrt(len(held))) if len(held) > 1 else None


def variety(texts: Sequence[np.ndarray]) -> Row:
    """Entropy of the tokens of a text in bits, and the share of its runs of four that it held before: means."""
    held = [text for text in texts if len(text)]
    runs = [[tuple(text[i : i + 4]) for i in range(len(text) - 3)] for text in held]
    again = [1 - len({*found}) / len(found) for found in runs if found]
    return {
        "entropy": float(np.mean([entropy(bytes(text.tolist())) for text in held])),
        "repetition": float(np.mean(again)) if again else None,
    }
