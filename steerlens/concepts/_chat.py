"""How a conversation is written down as one text: the system's turn, the user's turn, and where the reply begins."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class ChatFormat:
    """The marks around the turns of a conversation.

    A text is ``before_system + system + after_system + user + after_user`` and then the reply, or without a system
    message ``before_user + user + after_user``. ``next_user`` is what stands between a reply and the user's next text;
    empty where it is not known. `PLAIN` has no marks. `steerlens.evaluation.chat_format` reads the marks from a model's
    own template.
    """

    before_system: str
    after_system: str
    before_user: str
    after_user: str
    next_user: str = ""

    def opening(self, system: str) -> str:
        """All that stands before the user's text; ``system`` may be empty."""
        return self.before_system + system + self.after_system if system else self.before_user

    def reply(self, text: str) -> str:
        """A continuation as a reply: where a turn has ended, the space that joined it to the prompt is dropped."""
        return text.lstrip() if self.after_user else text


PLAIN = ChatFormat(before_system="", after_system="\n\n", before_user="", after_user="")
"""No conversation: a system message is a paragraph before the prompt, and a reply goes on where the prompt ends."""
