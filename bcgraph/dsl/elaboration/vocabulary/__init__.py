"""What may be written where: sections, settings and arguments with what they take, read off the schema."""
