"""Canvas models: what a transformer that was trained to restore masked tokens is to decoders."""

import dataclasses

from jaxdec.arguments import typed
from jaxdec.model.contract import Model


@typed
def canvas_model(model: Model, mask_token: int) -> Model:
    """A model whose logits are laws of the token at the place of each row, for `denoise`.

    Args:
      model: a transformer that was trained so (`training.objectives.masked_diffusion`, `block_diffusion`).
      mask_token: what stands at unknown positions; never emitted.

    Raises:
      ValueError: if the mask token is not in the vocabulary, or the model answers queries already.
    """
    if model.any_subset:
        raise ValueError("the model answers queries, and denoise takes it as it is")
    if not 0 <= mask_token < model.vocab_size:
        raise ValueError(f"mask_token {mask_token} is outside the vocabulary of {model.vocab_size}")
    return dataclasses.replace(model, mask_token=mask_token, any_subset=False, causal=False)
