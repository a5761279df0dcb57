"""The one kind of error a user is meant to read."""


class UserError(Exception):
    """A mistake in the input, told so that it can be mended without reading code.

    Parameters
    ----------
    what
        What is wrong, in one sentence.
    where
        The file, row, column or parameter it was found in.
    found, expected
        What was there, and what should have been there.
    fix
        The next step for the user.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str,
        found: str,
        expected: str,
        fix: str,
    ) -> None:
        self.what = what
        lines = [what]
        for name, text in (("where", where), ("found", found), ("expected", expected), ("next step", fix)):
            lines.append(f"  {name + ':':<11}{text}")
        super().__init__("\n".join(lines))
