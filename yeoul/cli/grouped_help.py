"""The look of ``--help``: plain text, flags under the titles of their groups, no name cut short; knows no flag.

Typer's own panels cut long flag names off on a terminal of 80 columns. A hidden flag is shown by ``--help-all`` alone.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand


def _show_all(context: typer.Context, is_given: bool) -> None:
    if is_given:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        typer.echo(context.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool, typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show every flag and exit.", show_default=False)
]
"""The parameter of a command that has hidden flags."""


class GroupedHelpCommand(TyperCommand):
    """A command whose help shows each flag under its ``rich_help_panel``, those without one first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections of the help."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for given in self.get_params(ctx):
            parameter: Any = given
            record = parameter.get_help_record(ctx)
            if record is not None:
                plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
                title = getattr(parameter, "rich_help_panel", None) or plain
                sections.setdefault(title, []).append((record[0].removesuffix(" <str>"), record[1]))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
        if num_hidden := sum(getattr(parameter, "hidden", False) for parameter in self.get_params(ctx)):
            formatter.write_paragraph()
            formatter.write_text(f"{num_hidden} more flags: {ctx.command_path} --help-all")
