"""What a grammar may cost: to send, to compile, and in every step that it constrains; knows no request.

llguidance is imported with the first grammar: nobody else waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import llguidance

MAX_GRAMMAR_BYTES = 1 << 18
MAX_CACHED_GRAMMARS = 64

# Fuel is llguidance's measure of work that does not depend on the machine's speed. About 50,000 a millisecond while it
# compiles, 14,000 in a step. States are shared by all answers of a grammar; ``GrammarMatcher`` says what their limit means.
_COMPILE_FUEL = 2_000_000
_STEP_FUEL = 200_000
_MAX_STATES = 50_000
_MAX_SYMBOLS = 200_000


def parser_limits() -> llguidance.LLParserLimits:
    """The limits under which every grammar is compiled and followed."""
    import llguidance

    return llguidance.LLParserLimits(
        initial_lexer_fuel=_COMPILE_FUEL,
        step_lexer_fuel=_STEP_FUEL,
        max_lexer_states=_MAX_STATES,
        max_grammar_size=_MAX_SYMBOLS,
        verbose_errors=False,
    )
