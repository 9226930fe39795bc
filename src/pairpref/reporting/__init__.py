"""What a person reads: the page, its Markdown, and the table at the terminal."""
