"""What training makes smaller: functions of outputs and labels, and the outputs of a teacher."""

from bcgraph.training.losses.functions import LOSSES, Loss, distillation, last, mean, mean_squared, tet

__all__ = ["LOSSES", "Loss", "distillation", "last", "mean", "mean_squared", "tet"]
