"""The language-model head: the embedding itself, or a tensor of its own.

`tie_word_embeddings` of a configuration is what its author meant, and transformers ties the two
only where the files do not say otherwise. What is opened here has a configuration that tells what
is, so that everything after it, saving, exporting and lm-eval's wrapper, follows.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from harness.model.stored import Files

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def settle_head(config: Any, files: Files) -> None:
    """Decide before loading, as transformers' `from_pretrained` does while loading.

    A tied head and embedding that are both in the files stay apart unless they are equal in the
    number format that they are loaded in; where the files have only one of the two, it is both.

    Args:
        config: Of the model; changed in place where it ties what stays apart.
        files: Afterwards have the embedding alone where the two are one.
    """
    if not config.tie_word_embeddings or HEAD not in files.names:
        return
    if EMBEDDING not in files.names:
        files.rename(HEAD, EMBEDDING)
    elif torch.equal(files.tensor(HEAD), files.tensor(EMBEDDING)):
        files.forget(HEAD)
    else:
        config.tie_word_embeddings = False


def tell_head(lm: PreTrainedModel) -> None:
    """Make the configuration of a loaded model say whether the two are one tensor."""
    named = dict(lm.named_parameters(remove_duplicate=False))
    if lm.config.tie_word_embeddings and named[HEAD] is not named[EMBEDDING]:
        lm.config.tie_word_embeddings = False
