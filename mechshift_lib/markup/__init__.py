"""How figures and tables stand on a page: drawings, captions, numbers, and what can be saved."""
