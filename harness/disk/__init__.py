"""Files as people have them: read with every fault as a sentence, written whole or not at all.

Imports errors.
"""
