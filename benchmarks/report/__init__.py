"""Tables in Markdown, the machine they were made on, and the files they are kept in."""
