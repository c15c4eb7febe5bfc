"""Drafters: what is proposed."""

from jaxdec.speculative.drafters.causal import CausalDrafter
from jaxdec.speculative.drafters.dflash import DFlashDrafter, dflash
from jaxdec.speculative.drafters.diffuspec import DiffuSpec, DraftLength, diffuspec
from jaxdec.speculative.drafters.eagle import Blocks, EagleDrafter, Pairs, PairWindow, eagle
from jaxdec.speculative.drafters.early_exits import (
    EarlyExits,
    ExitCounts,
    dynamic_exit,
    layer_skip,
)
from jaxdec.speculative.drafters.falcon import falcon
from jaxdec.speculative.drafters.features import features_at, features_of, reads_states
from jaxdec.speculative.drafters.grown import Grown, GrownParams
from jaxdec.speculative.drafters.heads import HeadDrafter, LastHidden, heads, hidden_at, likeliest
from jaxdec.speculative.drafters.input_copy import Anchor, InputCopy, find_unique, input_copy
from jaxdec.speculative.drafters.jacobi import Jacobi, JacobiWindow, jacobi
from jaxdec.speculative.drafters.lookahead import Grid, Lookahead, Pool, lookahead
from jaxdec.speculative.drafters.lookup_tree import LookupTree, lookup_tree, merge_chains
from jaxdec.speculative.drafters.mask_block import MaskBlock, mask_block
from jaxdec.speculative.drafters.model import ModelDrafter, TokenWindow, model
from jaxdec.speculative.drafters.prompt_lookup import (
    PromptLookup,
    check_ngrams,
    find_continuations,
    prompt_lookup,
    read_on,
    suffix_matches,
)
from jaxdec.speculative.drafters.scatter import last_of_each
from jaxdec.speculative.drafters.searched_trigrams import (
    Corpus,
    SearchedTrigrams,
    Simulated,
    corpus_of,
    searched_trigrams,
)
from jaxdec.speculative.drafters.speculative_jacobi import SpeculativeJacobi, speculative_jacobi
from jaxdec.speculative.drafters.suffix_decoding import (
    Counted,
    SuffixDecoding,
    history_of,
    suffix_decoding,
)
from jaxdec.speculative.drafters.token_recycling import (
    Successors,
    TokenRecycling,
    recycle,
    seed_bigrams,
    token_recycling,
)
from jaxdec.speculative.drafters.trigram_tree import Trigrams, TrigramTree, trigram_tree
from jaxdec.speculative.drafters.trimmed import frequent_tokens, trimmed, trimmed_params

__all__ = [
    "Anchor",
    "Blocks",
    "CausalDrafter",
    "Corpus",
    "Counted",
    "DFlashDrafter",
    "DiffuSpec",
    "DraftLength",
    "EagleDrafter",
    "EarlyExits",
    "ExitCounts",
    "Grid",
    "Grown",
    "GrownParams",
    "HeadDrafter",
    "InputCopy",
    "Jacobi",
    "JacobiWindow",
    "LastHidden",
    "Lookahead",
    "LookupTree",
    "MaskBlock",
    "ModelDrafter",
    "PairWindow",
    "Pairs",
    "Pool",
    "PromptLookup",
    "SearchedTrigrams",
    "Simulated",
    "SpeculativeJacobi",
    "Successors",
    "SuffixDecoding",
    "TokenRecycling",
    "TokenWindow",
    "TrigramTree",
    "Trigrams",
    "check_ngrams",
    "corpus_of",
    "dflash",
    "diffuspec",
    "dynamic_exit",
    "eagle",
    "falcon",
    "features_at",
    "features_of",
    "find_continuations",
    "find_unique",
    "frequent_tokens",
    "heads",
    "hidden_at",
    "history_of",
    "input_copy",
    "jacobi",
    "last_of_each",
    "layer_skip",
    "likeliest",
    "lookahead",
    "lookup_tree",
    "mask_block",
    "merge_chains",
    "model",
    "prompt_lookup",
    "read_on",
    "reads_states",
    "recycle",
    "searched_trigrams",
    "seed_bigrams",
    "speculative_jacobi",
    "suffix_decoding",
    "suffix_matches",
    "token_recycling",
    "trigram_tree",
    "trimmed",
    "trimmed_params",
]
