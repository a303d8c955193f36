"""The book: what is generated for its hand-written pages, and its build without a warning."""
