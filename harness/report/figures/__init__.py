"""Figures, one kind per file; `harness.report.figures.draw` draws all that there are data for."""
