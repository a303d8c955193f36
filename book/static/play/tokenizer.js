/* Text to tokens: whole words, as the models' tokenizer.json says (mechshift_lib/play/tokenizers.py). */
"use strict";

mechshiftPlay.part((play) => {
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  /* A pattern of the tokenizers library: there digits and spaces are those of all scripts. */
  const pattern = (text) => new RegExp(text.replaceAll("\\d", "\\p{Nd}").replaceAll("\\s", "\\p{White_Space}"), "gu");

  class Tokenizer {
    constructor({ vocabulary, special, splits, unknown, before }) {
      this.vocabulary = vocabulary; // words by id
      this.ids = new Map(vocabulary.map((word, id) => [word, id]));
      this.special = new RegExp(`(${special.map(escaped).join("|")})`, "u");
      this.specials = new Set(special);
      this.splits = splits.map(([text, removed]) => [pattern(text), removed]);
      this.unknown = unknown;
      this.before = before; // ids in front of every prompt
    }

    /* Pieces of a text: what a pattern matches, and what is left between. */
    split(text, [regex, removed]) {
      const pieces = [];
      let end = 0;
      for (const match of text.matchAll(regex)) {
        pieces.push(text.slice(end, match.index));
        if (!removed) pieces.push(match[0]);
        end = match.index + match[0].length;
      }
      return [...pieces, text.slice(end)].filter(Boolean);
    }

    words(text) {
      const parts = text.split(this.special).filter(Boolean);
      return parts.flatMap((part) => (this.specials.has(part) ? [part] : this.splits.reduce((pieces, one) => pieces.flatMap((piece) => this.split(piece, one)), [part])));
    }

    /* Ids of an answer, or of what follows one. */
    answer(text) {
      return this.words(text).map((word) => this.ids.get(word) ?? this.unknown);
    }

    /* Ids of a prompt, with what stands in front of every text. */
    prompt(text) {
      return [...this.before, ...this.answer(text)];
    }

    /* Words that the models don't know. */
    strange(text) {
      return this.words(text).filter((word) => !this.ids.has(word));
    }

    word(id) {
      return this.vocabulary[id];
    }
  }

  play.Tokenizer = Tokenizer;
});
