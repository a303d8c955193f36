"""``python -m mechshift_lib.cli``: the same as ``mechshift``."""

from mechshift_lib.cli.main import main

main()
