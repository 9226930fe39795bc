"""Why a row of votes can't be used: the reasons, as they are in the quarantine file and in data/clean/counts.json."""

REASONS = {
    "broken_row": 'not one row: in a CSV, a quote inside a quoted cell that is not doubled (""), or a line that is no JSON object',
    "wrong_fields": "more or fewer fields than there are columns",
    "not_utf8": "bytes that are not UTF-8; save the file as UTF-8",
    "too_long": "a cell of more than 1,000,000 characters or 1,000 turns",
    "bad_id": "the id is missing or not printable",
    "duplicate_id": "the id was used by an earlier row, which stays",
    "broken_json": 'a cell is not JSON; expected a list such as ["first turn", "second turn"], as most rows of that column have',
    "duplicate_keys": "a JSON object names a key twice",
    "too_deep": "JSON nested too deeply",
    "not_text": "a cell is neither text nor a list of texts and nulls, nor of messages with role and content",
    "bad_role": "a message's role is none of user, assistant, system and their usual synonyms",
    "no_turns": "a cell is an empty list",
    "no_prompt": "there is no prompt: no such column, or nothing in it",
    "prompts_differ": "the two conversations, or they and the prompt's column, do not ask the same",
    "same_answers": "chosen and rejected are the same: nobody can prefer one",
    "unequal_turns": "prompt, A and B differ in their number of turns",
    "bad_winner": "a winner column is neither 0 nor 1, or the one winner none of model_a, model_b, tie, tie (bothbad)",
    "no_winner": "no winner column is 1",
    "several_winners": "more than one winner column is 1",
    "bad_label": "the label is none of 0, 1, 2, A, B, TIE",
}


class RowError(Exception):
    """Raised while a row is read; ends as a line of the quarantine, never at the terminal."""

    def __init__(self, reason: str, excerpt: object = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.excerpt = excerpt if isinstance(excerpt, str) else repr(excerpt)
