"""Every reader of a file that a person can edit, on files that were changed in every way."""
