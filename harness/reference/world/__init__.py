"""The synthetic world that the reference models learn: its facts, texts and questions."""
