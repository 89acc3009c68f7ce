"""Commands on texts and on what is installed."""
