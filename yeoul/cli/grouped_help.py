"""The look of ``--help``: plain text, flags under the titles of their groups, no name cut short; knows no flag.

Typer's own panels cut long flag names off on a terminal of 80 columns.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class GroupedHelpCommand(TyperCommand):
    """A command whose help shows each flag under its ``rich_help_panel``, those without one first."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the sections of the help."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
                title = getattr(parameter, "rich_help_panel", None) or plain
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
