"""The word-level tokenizer of the small pairs: a word, a number up to 99 or a sign is one token."""

from __future__ import annotations

import random
import re

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from mechshift_lib.tasks import countdown, greater_than, infilling, ioi, vocabulary
from mechshift_lib.tasks.filler import filler_text

PAD, BOS, EOS, MASK, UNK = "[PAD]", "[BOS]", "[EOS]", "[MASK]", "[UNK]"

#: Two digits at a time (1732 is ``17 32``), then words, then single signs.
_PIECES = r"\d{1,2}|[A-Za-z]+|[^\sA-Za-z\d]"


def _words() -> list[str]:
    texts = [*ioi.TEMPLATES, greater_than.TEMPLATE, countdown.TEMPLATE]
    texts += [infilling.TEMPLATE, infilling.TEMPLATE_KNOWN]
    texts = [re.sub(r"\{\w+\}", " ", text) for text in texts]
    for words in (
        vocabulary.NAMES,
        vocabulary.PLACES,
        vocabulary.OBJECTS,
        vocabulary.EVENTS,
        vocabulary.ADJECTIVES,
        vocabulary.VERBS,
    ):
        texts += words
    texts += [*vocabulary.ANIMALS, *(f"{animal}s" for animal in vocabulary.ANIMALS)]
    for table in (vocabulary.PURPOSES, vocabulary.KNOWN_PURPOSES, vocabulary.COLORS):
        texts += [*table, *table.values()]
    texts += countdown.OPERATORS
    # The filler grammar's own words: enough draws to meet each of its fixed words.
    rng = random.Random("vocabulary")
    texts += [filler_text(rng) for _ in range(2000)]
    pieces = {piece for text in texts for piece in re.findall(_PIECES, text)}
    return sorted(piece for piece in pieces if not piece.isdigit())


def build_word_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the small pairs, the same every time.

    Its call puts ``[BOS]`` in front; ``add_special_tokens=False`` leaves it out.
    """
    numbers = [str(n) for n in range(10)] + [f"{n:02d}" for n in range(100)]
    tokens = [PAD, BOS, EOS, MASK, UNK, *numbers, *_words()]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokens.index(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        mask_token=MASK,
        unk_token=UNK,
    )
