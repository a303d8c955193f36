"""The circuit explorer: a page of the book on which every circuit can be looked at and compared.

The page needs no server. :mod:`~mechshift_lib.explorer.sources` finds the scores that there are,
:mod:`~mechshift_lib.explorer.curves` makes of them what a browser can't make in time,
:mod:`~mechshift_lib.explorer.files` writes both as scripts that the page loads when it needs them,
and :mod:`~mechshift_lib.explorer.build` does it only where something changed. What is drawn stands
in ``book/static/explorer``.
"""
