"""Documents that a user hands over: read with every check, or refused in one sentence."""
