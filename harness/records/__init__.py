"""What a cell leaves: the record, its protocol, and the folder that holds it."""
