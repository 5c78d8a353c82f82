"""One folder per question: its script, its results, its page and its figure."""
