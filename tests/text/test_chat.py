"""Chat templates: what they may do, and what they say."""

import pytest

pytest.importorskip("jinja2")

from jaxdec.text.chat import render

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi <b>!"},
]

TURNS = """\
{%- for message in messages %}
    {%- if message.role == "tool" %}{% continue %}{% endif %}
    {{- "<|" + message.role + "|>" + message.content + "\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|assistant|>" }}
{%- endif %}
"""


def test_turns():
    assert render(TURNS, MESSAGES, {}) == "<|system|>Be brief.\n<|user|>Hi <b>!\n<|assistant|>"
    assert render(TURNS, MESSAGES, {"add_generation_prompt": False}).endswith("!\n")
    assert render(TURNS, [*MESSAGES, {"role": "tool", "content": "x"}], {}) == render(
        TURNS, MESSAGES, {}
    )


def test_what_templates_are_written_for():
    template = "{% generation %}\n{{ tools | tojson(indent=1) }}{% endgeneration %}{{ bos_token }}"
    variables = {"tools": [{"a": "é<"}], "bos_token": "<s>"}
    assert render(template, [], variables) == '[\n {\n  "a": "é<"\n }\n]<s>'
    assert render("{{ strftime_now('%Y') | length }}", [], {}) == "4"
    assert render("{% if tools is none %}no{% endif %}{{ unknown }}", [], {}) == "no"
    assert render("    {% if true %}\n    x\n    {% endif %}\n", [], {}) == "    x\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{% for %}", "the chat template fails"),
        ("{{ messages[0].content.no.such }}", "the chat template fails"),
        ("{{ messages.append(1) }}", "unsafe|not safe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% for i in range(10000000) %}{% endfor %}", "the chat template fails"),
    ],
)
def test_templates_that_fail(template, message):
    with pytest.raises(ValueError, match=message):
        render(template, MESSAGES, {})


@pytest.mark.parametrize("messages", ["hi", ["hi"]])
def test_messages_are_dicts(messages):
    with pytest.raises(ValueError, match="messages must be dicts"):
        render(TURNS, messages, {})
