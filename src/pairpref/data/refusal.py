"""Why a row of votes can't be used: the reasons, as they stand in the quarantine file and in metrics/clean.json."""

REASONS = {
    "broken_row": "not one row: damaged quotes in a CSV, or a line that is no JSON object",
    "wrong_fields": "more or fewer fields than there are columns",
    "not_utf8": "bytes that are not UTF-8; save the file as UTF-8",
    "too_long": "a cell of more than 1,000,000 characters or 1,000 turns",
    "bad_id": "the id is missing or not printable",
    "duplicate_id": "the id was used by an earlier row, which stays",
    "broken_json": 'a cell is not JSON; expected a list such as ["first turn", "second turn"]',
    "duplicate_keys": "a JSON object names a key twice",
    "too_deep": "JSON nested too deeply",
    "not_text": "a cell is not a list of texts and nulls",
    "no_turns": "a cell is an empty list",
    "unequal_turns": "prompt, response_a and response_b differ in their number of turns",
    "bad_winner": "a winner column is neither 0 nor 1",
    "no_winner": "no winner column is 1",
    "several_winners": "more than one winner column is 1",
    "bad_label": "the label is none of 0, 1, 2, A, B, TIE",
}


class Refused(Exception):
    """Raised while a row is read; ends as a line of the quarantine, never at the terminal."""

    def __init__(self, reason: str, excerpt: object = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.excerpt = excerpt if isinstance(excerpt, str) else repr(excerpt)
