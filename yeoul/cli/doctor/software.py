"""The doctor's checks of what is installed and set: Python, packages, settings, variables; never shows a value of one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from yeoul import __version__
from yeoul.cli.doctor.findings import Check, Outcome
from yeoul.cli.doctor.subject import Subject
from yeoul.config.build import given_variables, steering_variables

_SECTION = "software"
_OLDEST, _NEWEST = (3, 11), (3, 13)


def _python(subject: Subject) -> Iterator[Outcome]:
    version = sys.version_info[:2]
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    if version > _NEWEST:
        yield Outcome("note", found, f"it is tested with {_dotted(_OLDEST)} to {_dotted(_NEWEST)}")
    else:
        yield Outcome("ok", found)
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        yield Outcome("warning", "this Python has no interpreter lock, which nothing here was tested without")


def _package(subject: Subject) -> Iterator[Outcome]:
    command = shutil.which("yeoul")
    beside = os.path.join(os.path.dirname(sys.executable), "yeoul")
    try:
        told = metadata.version("yeoul")
    except metadata.PackageNotFoundError:
        yield Outcome("warning", f"yeoul {__version__} is not installed here, only found", "install it: pip install yeoul")
        return
    if told != __version__:
        yield Outcome("warning", f"yeoul {__version__}, but it was installed as {told}", "install it again")
    elif command is not None and os.path.exists(beside) and os.path.realpath(command) != os.path.realpath(beside):
        yield Outcome("note", f"yeoul {__version__}; the command yeoul is another installation's, {command}")
    else:
        yield Outcome("ok", f"yeoul {__version__}")


def _dependencies(subject: Subject) -> Iterator[Outcome]:
    wanted = [line for line in metadata.requires("yeoul") or [] if "extra ==" not in line]
    fitting = 0
    for line in wanted:
        try:
            requirement = Requirement(line)
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Outcome("fault", f"{requirement.name} is missing; expected {line}", f"pip install {line!r}")
            continue
        except InvalidRequirement as error:
            yield Outcome("warning", f"{line!r} cannot be read: {error}")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fitting += 1
        else:
            yield Outcome("warning", f"{requirement.name} is {version}; expected {line}", f"pip install {line!r}")
    yield Outcome("ok", f"{fitting} of {len(wanted)} packages are there, in a version that fits")


def _variables(subject: Subject) -> Iterator[Outcome]:
    given = given_variables()
    settings = [name for name, is_setting in given.items() if is_setting]
    foreign = [name for name, is_setting in given.items() if not is_setting]
    if foreign:
        yield Outcome(
            "note", f"{', '.join(foreign)}: no setting, and change nothing", "yeoul serve --help-all names them all"
        )
    yield Outcome(
        "ok", f"settings: {', '.join(settings) or 'none'}; for libraries: {', '.join(steering_variables()) or 'none'}"
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


CHECKS = (
    Check(_SECTION, "python", _python),
    Check(_SECTION, "yeoul", _package),
    Check(_SECTION, "packages", _dependencies),
    Check(_SECTION, "variables", _variables),
)
