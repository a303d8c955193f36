"""Models that run in the page: a page of the book on which small pairs can be asked and changed.

The page needs no server and no network. :mod:`~mechshift_lib.play.weights` reads the models that a
browser can run, :mod:`~mechshift_lib.play.tokenizers` their tokenizer,
:mod:`~mechshift_lib.play.prompts` makes prompts by the library's tasks,
:mod:`~mechshift_lib.play.files` writes all of it as scripts, and :mod:`~mechshift_lib.play.build`
does so only where something changed. What computes stands in ``book/static/play``.
"""
