"""Quantities that need whole passes over a model: importances, saliencies, leave-one-out losses."""
