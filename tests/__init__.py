"""What moebench promises, room by room."""
