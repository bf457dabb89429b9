"""Files sent as messages: which of them, by what names, and what was sent."""
