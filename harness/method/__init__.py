"""The face for authors of methods: all that a method file needs has its name here.

The contract, the model and the calibration that a method gets, all edits, the options and budgets
that methods share, statistics, and the tools that two methods or more use. What a single method
needs stays in its module. Names are looked up when they are first asked for, so that importing this
package is cheap.

Behind the face: the registry, which finds methods by name and describes them from their source
code, and the recipe, which applies several methods to one model in order.

Imports calibration, code, disk, errors, model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.calibration.observe import Seen as Seen
    from harness.calibration.passes.importance import Importance as Importance
    from harness.calibration.passes.importance import leave_one_out as leave_one_out
    from harness.calibration.passes.saliency import Saliency as Saliency
    from harness.calibration.passes.saliency import saliencies as saliencies
    from harness.calibration.statistic import Statistic as Statistic
    from harness.calibration.statistics.inputs import Covariances as Covariances
    from harness.calibration.statistics.inputs import InputNorms as InputNorms
    from harness.calibration.statistics.inputs import Magnitudes as Magnitudes
    from harness.calibration.statistics.outputs import MeanOutputs as MeanOutputs
    from harness.calibration.statistics.outputs import Outputs as Outputs
    from harness.calibration.statistics.routing import RouterMass as RouterMass
    from harness.calibration.statistics.routing import RouterSimilarity as RouterSimilarity
    from harness.calibration.statistics.routing import TokenCount as TokenCount
    from harness.calibration.statistics.routing import TopRatios as TopRatios
    from harness.calibration.statistics.similarity import Similarity as Similarity
    from harness.calibration.statistics.subset_errors import SubsetErrors as SubsetErrors
    from harness.calibration.statistics.subset_losses import SubsetLosses as SubsetLosses
    from harness.calibration.walk import Calibration as Calibration
    from harness.calibration.walk import Follow as Follow
    from harness.calibration.walk import LiveBlock as LiveBlock
    from harness.errors import Refused as Refused
    from harness.method.budgets import DropBudget as DropBudget
    from harness.method.budgets import KeepBudget as KeepBudget
    from harness.method.contract import Method as Method
    from harness.method.contract import Note as Note
    from harness.method.inverse import inverse_factor as inverse_factor
    from harness.method.low_rank.factored import factored as factored
    from harness.method.propagation import Propagate as Propagate
    from harness.method.quantization.grid import fit as fit
    from harness.method.quantization.grid import grouped as grouped
    from harness.method.quantization.grid import nearest as nearest
    from harness.method.quantization.grid import rounded as rounded
    from harness.method.quantization.output_errors import QuantizationErrors as QuantizationErrors
    from harness.method.quantization.rounding import Quantization as Quantization
    from harness.method.quantization.rounding import Rounding as Rounding
    from harness.method.quantization.rounding import rounded_note as rounded_note
    from harness.method.quantization.stacks import Stack as Stack
    from harness.method.quantization.stacks import sharing as sharing
    from harness.method.quantization.stacks import stacks as stacks
    from harness.method.ranks import RankBudget as RankBudget
    from harness.method.ranks import TargetedRanks as TargetedRanks
    from harness.method.remainders import apportion as apportion
    from harness.method.remainders import largest_remainders as largest_remainders
    from harness.method.scores import first as first
    from harness.method.scores import highest as highest
    from harness.method.scores import keep_highest as keep_highest
    from harness.method.sparsity import Sparsity as Sparsity
    from harness.method.sparsity import below as below
    from harness.method.sparsity import lowest as lowest
    from harness.method.targets import Target as Target
    from harness.method.targets import Targets as Targets
    from harness.method.targets import TargetsOrRouter as TargetsOrRouter
    from harness.method.targets import targeted as targeted
    from harness.model.editing.matrices import PARTS as PARTS
    from harness.model.editing.matrices import Matrix as Matrix
    from harness.model.editing.matrices import Part as Part
    from harness.model.edits import DropBlock as DropBlock
    from harness.model.edits import DropMoE as DropMoE
    from harness.model.edits import Edit as Edit
    from harness.model.edits import KeepExperts as KeepExperts
    from harness.model.edits import LowRank as LowRank
    from harness.model.edits import MergeExperts as MergeExperts
    from harness.model.edits import QuantizeWeights as QuantizeWeights
    from harness.model.edits import SetWeights as SetWeights
    from harness.model.edits import SkipExperts as SkipExperts
    from harness.model.quantized.scheme import Quantized as Quantized
    from harness.model.quantized.scheme import Scheme as Scheme
    from harness.model.view import Block as Block
    from harness.model.view import MoEModel as MoEModel

_MODULES = {
    "Importance": "harness.calibration.passes.importance",
    "leave_one_out": "harness.calibration.passes.importance",
    "Saliency": "harness.calibration.passes.saliency",
    "saliencies": "harness.calibration.passes.saliency",
    "Seen": "harness.calibration.observe",
    "Statistic": "harness.calibration.statistic",
    "Covariances": "harness.calibration.statistics.inputs",
    "InputNorms": "harness.calibration.statistics.inputs",
    "Magnitudes": "harness.calibration.statistics.inputs",
    "MeanOutputs": "harness.calibration.statistics.outputs",
    "Outputs": "harness.calibration.statistics.outputs",
    "RouterMass": "harness.calibration.statistics.routing",
    "RouterSimilarity": "harness.calibration.statistics.routing",
    "TokenCount": "harness.calibration.statistics.routing",
    "TopRatios": "harness.calibration.statistics.routing",
    "Similarity": "harness.calibration.statistics.similarity",
    "SubsetErrors": "harness.calibration.statistics.subset_errors",
    "SubsetLosses": "harness.calibration.statistics.subset_losses",
    "Calibration": "harness.calibration.walk",
    "Follow": "harness.calibration.walk",
    "LiveBlock": "harness.calibration.walk",
    "Refused": "harness.errors",
    "DropBudget": "harness.method.budgets",
    "KeepBudget": "harness.method.budgets",
    "Method": "harness.method.contract",
    "Note": "harness.method.contract",
    "inverse_factor": "harness.method.inverse",
    "factored": "harness.method.low_rank.factored",
    "Propagate": "harness.method.propagation",
    "fit": "harness.method.quantization.grid",
    "grouped": "harness.method.quantization.grid",
    "nearest": "harness.method.quantization.grid",
    "rounded": "harness.method.quantization.grid",
    "QuantizationErrors": "harness.method.quantization.output_errors",
    "Quantization": "harness.method.quantization.rounding",
    "Rounding": "harness.method.quantization.rounding",
    "rounded_note": "harness.method.quantization.rounding",
    "Stack": "harness.method.quantization.stacks",
    "sharing": "harness.method.quantization.stacks",
    "stacks": "harness.method.quantization.stacks",
    "RankBudget": "harness.method.ranks",
    "TargetedRanks": "harness.method.ranks",
    "apportion": "harness.method.remainders",
    "largest_remainders": "harness.method.remainders",
    "first": "harness.method.scores",
    "highest": "harness.method.scores",
    "keep_highest": "harness.method.scores",
    "Sparsity": "harness.method.sparsity",
    "below": "harness.method.sparsity",
    "lowest": "harness.method.sparsity",
    "Target": "harness.method.targets",
    "Targets": "harness.method.targets",
    "TargetsOrRouter": "harness.method.targets",
    "targeted": "harness.method.targets",
    "PARTS": "harness.model.editing.matrices",
    "Matrix": "harness.model.editing.matrices",
    "Part": "harness.model.editing.matrices",
    "DropBlock": "harness.model.edits",
    "DropMoE": "harness.model.edits",
    "Edit": "harness.model.edits",
    "KeepExperts": "harness.model.edits",
    "LowRank": "harness.model.edits",
    "MergeExperts": "harness.model.edits",
    "QuantizeWeights": "harness.model.edits",
    "SetWeights": "harness.model.edits",
    "SkipExperts": "harness.model.edits",
    "Quantized": "harness.model.quantized.scheme",
    "Scheme": "harness.model.quantized.scheme",
    "Block": "harness.model.view",
    "MoEModel": "harness.model.view",
}
"""Module that defines each name."""

__all__ = sorted(_MODULES)

if not TYPE_CHECKING:  # a type checker would take any name for one of this module's

    def __getattr__(name: str) -> object:
        """Return what the table names, imported now."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return all names, looked up or not."""
    return sorted({*globals(), *_MODULES})
