"""Tasks with exact answers: problems whose solutions are written in steps and checked from text alone."""

from jaxdec.training.tasks.arithmetic import Arithmetic
from jaxdec.training.tasks.contract import DELIMITER, Problem, Task, is_held_out, problems
from jaxdec.training.tasks.countdown import Countdown
from jaxdec.training.tasks.mixture import Packed, TaskMixture, document, windows
from jaxdec.training.tasks.sudoku import Sudoku

__all__ = [
    "DELIMITER",
    "Arithmetic",
    "Countdown",
    "Packed",
    "Problem",
    "Sudoku",
    "Task",
    "TaskMixture",
    "document",
    "is_held_out",
    "problems",
    "windows",
]
