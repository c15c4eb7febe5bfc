"""Tasks with exact answers: problems whose solutions are written in steps and checked from text alone."""

from jaxdec.training.tasks.agreement import Agreement
from jaxdec.training.tasks.arithmetic import Arithmetic
from jaxdec.training.tasks.canvases import Canvases, canvas_size, canvases
from jaxdec.training.tasks.contract import DELIMITER, Problem, Task, is_held_out, problems
from jaxdec.training.tasks.countdown import Countdown
from jaxdec.training.tasks.limits import best_in_groups, in_groups, total_correlation
from jaxdec.training.tasks.mixture import Packed, TaskMixture, document, windows
from jaxdec.training.tasks.sudoku import Sudoku
from jaxdec.training.tasks.sudoku_grid import SudokuGrid, WideSudokuGrid
from jaxdec.training.tasks.waiting_line import Copy, Insert, Replace, Reverse, Shuffle, Sort

__all__ = [
    "DELIMITER",
    "Agreement",
    "Arithmetic",
    "Canvases",
    "Copy",
    "Countdown",
    "Insert",
    "Packed",
    "Problem",
    "Replace",
    "Reverse",
    "Shuffle",
    "Sort",
    "Sudoku",
    "SudokuGrid",
    "Task",
    "TaskMixture",
    "WideSudokuGrid",
    "best_in_groups",
    "canvas_size",
    "canvases",
    "document",
    "in_groups",
    "is_held_out",
    "problems",
    "total_correlation",
    "windows",
]
