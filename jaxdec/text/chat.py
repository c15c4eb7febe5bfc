"""Chat templates: conversations as prompts, rendered by jinja2 in a sandbox.

A template comes with a checkpoint and is a program: it may call nothing that changes anything, and sees what it is
given alone.
"""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any


def render(
    template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
) -> str:
    """The prompt of a conversation.

    Args:
      template: the source of a chat template.
      messages: such as `[{"role": "user", "content": "..."}]`.
      variables: whatever else the template reads: `tools`, `documents`, `bos_token`, ...; `add_generation_prompt` is
        true if not given, so that the answer comes next.

    Raises:
      ValueError: if the template refuses the conversation, or jinja2 is missing.
    """
    if isinstance(messages, str | bytes) or not all(isinstance(m, Mapping) for m in messages):
        raise ValueError(
            'messages must be dicts, such as [{"role": "user", "content": "..."}], got '
            f"{str(messages)[:60]!r}"
        )
    given = {"tools": None, "documents": None, "add_generation_prompt": True, **variables}
    try:
        return _compiled(template).render(messages=list(messages), **given)
    except Exception as error:  # a template is a program, which may fail in any way
        raise ValueError(f"the chat template fails: {error}") from error


def _jinja2() -> Any:
    try:
        import jinja2
        import jinja2.ext
        import jinja2.sandbox
    except ImportError:
        raise ValueError("a chat template needs jinja2: pip install jinja2") from None
    return jinja2


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    """The template in the surroundings that templates are written for, those of transformers."""
    jinja2 = _jinja2()

    class Generation(jinja2.ext.Extension):  # type: ignore[name-defined]
        """`{% generation %} ... {% endgeneration %}` marks what a model has said; it is rendered as it stands."""

        tags = frozenset({"generation"})

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    sandbox.filters["tojson"] = _to_json
    sandbox.globals["raise_exception"] = _raise(jinja2.TemplateError)
    sandbox.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return sandbox.from_string(template)


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    """Plain JSON: jinja2's own would escape it for a web page."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(kind: type[Exception]):
    def raise_exception(message):
        raise kind(message)

    return raise_exception
