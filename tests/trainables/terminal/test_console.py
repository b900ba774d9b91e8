"""Text and JSON on the terminal."""

import json

from trainables.terminal.console import Terminal


def test_json_has_null_for_numbers_that_are_not_finite(capsys):
    Terminal("json").print_json({"front": [{"a": float("nan"), "b": 1.5}], "c": (float("inf"), "x")})
    assert json.loads(capsys.readouterr().out) == {"front": [{"a": None, "b": 1.5}], "c": [None, "x"]}
    Terminal("text").print_json({"a": 1})
    assert capsys.readouterr() == ("", "")


def test_errors_are_always_printed_and_text_has_no_colours_outside_a_terminal(capsys):
    for output in ("quiet", "json"):
        terminal = Terminal(output)
        terminal.info("[bold]news[/bold] 1")
        terminal.error("trial 3 failed: it broke")
        out, err = capsys.readouterr()
        assert out == "" and "\x1b" not in err
        if output == "quiet":
            assert err == "trial 3 failed: it broke\n"
        else:
            assert err == "[bold]news[/bold] 1\ntrial 3 failed: it broke\n"


def test_output_that_is_no_terminal_is_wide_enough_for_whole_tables(capsys):
    assert Terminal().console.width == 200 and not Terminal().console.is_terminal
