"""What both simulators share: the journal of what was said, and control over stdin and stdout.

Control: `go` lets the values change, `pause` stops them, `stop` (or the end of stdin) ends the process; each is answered with one JSON line.
"""

import asyncio
import json
import os
import sys


class Journal:
    """Lines `asset item value timestamp_ms` (tabs between), one for each value said. Where the
    protocol carries no timestamp, the time at which it was said stands there with a minus sign.

    A batch is on its way to the file, by write(2) and not in a buffer of this process, before its values are said: a killed simulator
    has at most noted too much, which the judge reports as missing, never too little, which would blame the edge for inventing values.
    """

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lines = []
        self.said = 0

    def note(self, asset, item, value, timestamp_ms):
        self._lines.append(f"{asset}\t{item}\t{value}\t{timestamp_ms}\n")
        self.said += 1

    def write(self):
        if self._lines:
            data = memoryview("".join(self._lines).encode())
            self._lines.clear()
            while data:
                data = data[os.write(self._file, data):]


class Control:
    """The harness's hand on the simulator."""

    def __init__(self, running):
        self.running = asyncio.Event()
        self.stopped = asyncio.Event()
        if running:
            self.running.set()

    @staticmethod
    def tell(**facts):
        print(json.dumps(facts), flush=True)

    async def listen(self, journal):
        """Obeys stdin until `stop` or its end."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while True:
            word = (await reader.readline()).decode().strip()
            if word == "go":
                self.running.set()
            elif word == "pause":
                self.running.clear()
            elif word in ("stop", ""):
                self.running.clear()
                self.stopped.set()
            else:
                self.tell(error=f"unknown command {word!r}")
                continue
            journal.write()
            self.tell(done=word or "stop", said=journal.said)
            if self.stopped.is_set():
                return
