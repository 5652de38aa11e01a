"""`whisperctl probe`: whether a person who speaks now gets words, and if not, which layer is to blame."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from whisperctl.api import Api, ApiProblem
from whisperctl.errors import CtlError, Unproven, codes
from whisperctl.output import clean, errors_as_json, print_json, stack_options
from whisperctl.stack import find_stack

WORDS = {"ok": "ok", "failed": "FAILED", "asleep": "asleep", "not_reached": "-"}
COLOURS = {"ok": "green", "failed": "red", "asleep": "blue"}


CODES = codes(0, 1, 2, 3, 5, 6, zero="green, or asleep and well", one="a layer failed")


@click.command(epilog=f"Example: whisperctl probe --json\n\n{CODES}")
@stack_options
@errors_as_json
def probe(url: str | None, token: str | None, state_dir: Path, as_json: bool) -> None:
    """Look at every layer from the machine to the words, and say which one is broken.

    Three seconds of speech go through the whole chain, and the words that come back are checked. A sleeping GPU is
    not woken, and nobody loses a place.
    """
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "operator") as api:
        try:
            found = api.call("POST", "/v1/probe", {})
        except ApiProblem as refused:
            known = blamed(refused.problem)
            if known is None:
                raise
            found = known
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(table(found["layers"])))
    if not found["ok"]:
        sentence = verdict(found)
        error = CtlError(sentence) if found["cause"] else Unproven(sentence)
        error.reported = True
        raise error
    if not as_json:
        click.echo(verdict(found))


def blamed(problem: Mapping[str, Any]) -> dict[str, Any] | None:
    """The probe that a refusal stands for when it names a layer: without its table the API lets nobody in."""
    cause = problem.get("cause")
    if not isinstance(cause, str):
        return None
    layer = {
        "name": cause,
        "verdict": "failed",
        "ms": 0,
        "detail": str(problem.get("detail") or "it fails"),
        "remedy": problem.get("remedy"),
    }
    return {"ok": False, "cause": cause, "layers": [layer]}


def table(layers: list[dict[str, Any]]) -> list[str]:
    """A line for each layer; columns as wide as what stands in them."""
    rows = [(one["name"], WORDS.get(one["verdict"], one["verdict"]), f"{one['ms']:.0f}", one) for one in layers]
    names = max(len(name) for name, _, _, _ in rows)
    times = max(len(ms) for _, _, ms, _ in rows)
    lines = []
    for name, word, ms, one in rows:
        coloured = click.style(f"{word:<6}", fg=COLOURS.get(one["verdict"]), bold=one["verdict"] == "failed")
        took = f"{ms:>{times}} ms" if one["verdict"] in ("ok", "failed") else " " * (times + 3)
        lines.append(f"{name:<{names}}  {coloured}  {took}  {clean(one['detail'])}")
    return lines


def verdict(found: Mapping[str, Any]) -> str:
    """What it comes to, and what to do."""
    layers = found["layers"]
    if found["ok"]:
        asleep = any(one["verdict"] == "asleep" for one in layers)
        return "asleep, and all that is awake is well" if asleep else "green: whoever speaks now gets words"
    if not found["cause"]:
        why = next((one["detail"] for one in layers if one["verdict"] == "not_reached"), "nobody knows")
        return f"not proven: {why}"
    layer = next(one for one in layers if one["name"] == found["cause"])
    said = f"{layer['name']}: {layer['detail'].rstrip('.')}. {layer['remedy'] or ''}"
    return clean(said.strip())
