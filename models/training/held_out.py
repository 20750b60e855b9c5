"""Prints first turns of chats with wordings that training never sees, one a line: `test/fixtures/held-out-prompts.txt`.

    python3 held_out.py 120
"""

import sys

from text import Writer


def main(count):
    writer, seen = Writer(424242, 'templates'), set()
    while len(seen) < count:
        asked = next((text for role, text in writer.document() if role == 'user'), '')
        if writer.used_held and asked and '\n' not in asked and asked not in seen:
            seen.add(asked)
            print(asked)


if __name__ == '__main__':
    main(int(sys.argv[1]))
