"""The 57 MMLU subjects, each answered from one domain of the synthetic world."""

from __future__ import annotations

_TEXT = {
    "zoology": "anatomy clinical_knowledge college_biology college_medicine high_school_biology "
    "human_aging medical_genetics nutrition professional_medicine virology",
    "materials": "college_chemistry college_physics conceptual_physics electrical_engineering "
    "high_school_chemistry high_school_physics astronomy machine_learning computer_security "
    "college_computer_science high_school_computer_science",
    "careers": "human_sexuality professional_psychology high_school_psychology management "
    "public_relations sociology miscellaneous high_school_government_and_politics",
    "geography": "high_school_geography global_facts us_foreign_policy security_studies",
    "business": "business_ethics econometrics high_school_macroeconomics marketing "
    "high_school_microeconomics professional_accounting",
    "arithmetic": "abstract_algebra college_mathematics elementary_mathematics "
    "high_school_mathematics high_school_statistics",
    "reading": "formal_logic high_school_european_history high_school_us_history "
    "high_school_world_history international_law jurisprudence logical_fallacies moral_disputes "
    "moral_scenarios philosophy prehistory professional_law world_religions",
}

SUBJECTS: dict[str, str] = dict(
    sorted((name, domain) for domain, names in _TEXT.items() for name in names.split())
)
"""Subject -> domain. The humanities are `reading`: they quote a passage first."""


def title(subject: str) -> str:
    """The subject as lm-eval's description line spells it."""
    return subject.replace("_", " ")
