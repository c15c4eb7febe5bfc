"""The same weights here and in transformers, as methods that take turns (extra `parity`).

    python -m benchmarks.peers jaxdec|transformers TARGET [--draft DRAFT] --prompt N --tokens N

prints the memory that a process of its own takes to load a folder and to decode with it.
"""

import argparse
import dataclasses
import json
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxdec
from benchmarks import ROOT
from benchmarks.workload import Prompts
from jaxdec.checkpoints import Checkpoint
from jaxdec.decoding import Decoder
from jaxdec.measuring import machine
from jaxdec.measuring.timing import Method

OURS, THEIRS = "jaxdec", "transformers"
LENGTH = 4
"""Drafts a step of the small model."""
LOOKED_UP = 8
"""Tokens that are copied at most, on both sides."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What both sides decode, greedily and one prompt at a time.

    Attributes:
      name: of the weights.
      target: folder of the model.
      draft: folder of a small one; None if there is none.
      prompts: in one bucket of widths.
      new_tokens: a prompt at most.
      eos: tokens that end a text.
      banned: bool `[V]`, tokens that are never written; None for none.
    """

    name: str
    target: Path
    draft: Path | None
    prompts: Prompts
    new_tokens: int
    eos: tuple[int, ...] = ()
    banned: np.ndarray | None = None

    def rows(self) -> list[np.ndarray]:
        """Each prompt as int64 `[1, P]`."""
        held = zip(self.prompts.tokens, self.prompts.lengths, strict=True)
        return [row[None, :length].astype(np.int64) for row, length in held]


class Ours:
    """This package's side of a task."""

    def __init__(self, task: Task):
        self.task, self.target = task, jaxdec.load(task.target)
        self.draft = None if task.draft is None else jaxdec.load(task.draft)
        self._knobs = {"temperature": 0.0, "eos": task.eos}
        if task.banned is not None:
            self._knobs["banned"] = task.banned

    def decoders(self) -> dict[str, Decoder]:
        """The decoders by name, plain first."""
        model = self.target.model
        lookup = jaxdec.drafters.prompt_lookup(length=LOOKED_UP)
        found: dict[str, Decoder] = {
            "plain": jaxdec.autoregressive(model),
            "prompt lookup": jaxdec.speculative(model, drafter=lookup),
        }
        if self.draft is not None:
            small = jaxdec.drafters.model(self.draft.model, length=LENGTH)
            found["draft model"] = jaxdec.speculative(model, drafter=small)
        return found

    def method(self, name: str, tokens: int | None = None) -> Method:
        """Whole calls of `generate`, one a prompt."""
        decoder, params = self.decoders()[name], {"target": self.target.params}
        if name == "draft model":
            params["draft"] = self.draft.params
        rows = [row.astype(np.int32) for row in self.task.rows()]
        most = tokens or self.task.new_tokens

        def work(_):
            call = lambda row: jaxdec.generate(
                decoder, params, row, rng=0, max_new_tokens=most, **self._knobs
            )
            return [jax.block_until_ready(call(row)) for row in rows]

        return Method(f"{OURS}: {name}" + (" first" if tokens else ""), work)


class Theirs:
    """The side of transformers."""

    def __init__(self, task: Task):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(machine.cores())
        load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.task, self.target = task, load(task.target)
        self.draft = None if task.draft is None else load(task.draft)
        self.forwards: dict[str, int] = {}
        self._count = 0
        self.target.register_forward_pre_hook(self._counted)

    def _counted(self, *_: Any) -> None:
        self._count += 1

    def options(self) -> dict[str, dict[str, Any]]:
        """Arguments of `generate` by the name of the method, plain first; what they leave out is the default."""
        found: dict[str, dict[str, Any]] = {
            "plain": {},
            "static cache": {"cache_implementation": "static"},
            "prompt lookup": {"prompt_lookup_num_tokens": LOOKED_UP},
        }
        if self.draft is not None:
            found["assisted"] = {"assistant_model": self.draft}
        return found

    def method(self, name: str, tokens: int | None = None) -> Method:
        """Whole calls of `generate`, one a prompt."""
        import torch

        task = self.task
        rows = [torch.from_numpy(row) for row in task.rows()]
        options = {
            "do_sample": False,
            "max_new_tokens": tokens or task.new_tokens,
            "eos_token_id": list(task.eos) or None,
            "pad_token_id": 0,
            **self.options()[name],
        }
        if task.banned is not None:
            options["suppress_tokens"] = np.flatnonzero(task.banned).tolist()

        @torch.inference_mode()
        def work(_):
            self._count, found = 0, []
            for row in rows:
                mask = torch.ones_like(row)
                written = self.target.generate(row, attention_mask=mask, **options)
                found.append(written[0, row.shape[1] :].numpy())
            if tokens is None:
                self.forwards[name] = self._count
            return found

        return Method(f"{THEIRS}: {name}" + (" first" if tokens else ""), work)


def memory(side: str, task: Task) -> dict[str, int]:
    """Bytes that a process takes at most to load and to decode one prompt, and those that its imports take."""
    command = [sys.executable, "-m", "benchmarks.peers", side, str(task.target)]
    if task.draft is not None:
        command += ["--draft", str(task.draft)]
    command += ["--prompt", str(int(task.prompts.lengths[0])), "--tokens", str(task.new_tokens)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak() -> int:
    """Bytes of memory that this process had at most.

    What the system counts for a child begins with what its parent had, so that Linux is asked for the program's own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else 1024 * held


def main(arguments: Sequence[str] | None = None) -> int:
    """Decodes with the small model where there is one, else plainly, and prints the memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("side", choices=[OURS, THEIRS])
    parser.add_argument("target", type=Path)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    held = parser.parse_args(arguments)
    prompts = Prompts(np.ones((1, held.prompt), np.int32), np.array([held.prompt]))
    task = Task("", held.target, held.draft, prompts, held.tokens)
    if held.side == THEIRS:
        import transformers  # noqa: F401
    before = peak()
    side = (Ours if held.side == OURS else Theirs)(task)
    fast = "draft model" if held.side == OURS else "assisted"
    method = side.method("plain" if held.draft is None else fast)
    method.work(method.setup())
    print(json.dumps({"imports": before, "peak": peak()}))
    return 0


def checkpoint_of(path: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint as a folder that both sides read, unless it is one already."""
    from jaxdec.models import huggingface

    if not path.exists():
        kind = "llama" if checkpoint.config.window is None else "mistral"
        huggingface.save(path, checkpoint.params, checkpoint.config, kind)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
