"""Record docs/demo.svg: run the commands of the README's first picture in a terminal, and draw what it showed.

    make record

The data lie on the S3 server of the tests; what is recorded is the real output of real commands. A home directory is
shown as /home/ada. Run it as root, for the erofs engine.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import ExitStack
from dataclasses import dataclass
from fcntl import ioctl
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "docs" / "demo.svg"
COLUMNS = 80
BUCKET = "my-bucket"
HOME = "/home/ada"
FILES, FILE_BYTES = 4_000, 300_000

SESSION = (
    "fusepkg mount my-bucket/plants:v2 plants",
    "find plants -type f | wc -l; du -sh --apparent-size plants",
    "tail -2 plants/labels.csv",
    "cmp plants/images/0042.jpg folder/images/0042.jpg && echo identical",
    "fusepkg status plants | grep -E 'Holds|Fetched'",
    "echo 4000,fern >> plants/labels.csv",
    "fusepkg umount plants",
)
"""The mount is there at once, its files are plain, only what is read is fetched, and nothing can be changed."""

_CHARACTER_WIDTH, _LINE_HEIGHT, _MARGIN, _TOP = 8.4, 19, 18, 44
_STEP_S = 0.9
"""Between two commands of the drawing."""

_COLOURS = {31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea"}
_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b.")


@dataclass(frozen=True, slots=True)
class Cell:
    """One character on the screen, with the attributes of its CSS style."""

    character: str
    style: str = ""


class Screen:
    """As much of a terminal as the commands need: lines, carriage return, cursor up, erased lines, colours."""

    def __init__(self) -> None:
        self.lines: list[list[Cell]] = [[]]
        self._row = self._column = 0
        self._style = ""

    def show(self, text: str) -> None:
        """Show what a program wrote, control sequences included."""
        position = 0
        for found in _SEQUENCE.finditer(text):
            self._write(text[position : found.start()])
            if found[2]:
                self._control(found[1], found[2])
            position = found.end()
        self._write(text[position:])

    def _write(self, text: str) -> None:
        for character in text:
            if character == "\r":
                self._column = 0
            elif character == "\n":
                self._row, self._column = self._row + 1, 0
                if self._row == len(self.lines):
                    self.lines.append([])
            elif character == "\t":
                self._write(" " * (8 - self._column % 8))
            else:
                if self._column == COLUMNS:
                    self._write("\r\n")
                line = self.lines[self._row]
                line += [Cell(" ")] * (self._column + 1 - len(line))
                line[self._column] = Cell(character, self._style)
                self._column += 1

    def _control(self, parameters: str, final: str) -> None:
        if final == "A":
            self._row = max(0, self._row - int(parameters or 1))
        elif final == "K":
            keep = 0 if parameters == "2" else self._column
            del self.lines[self._row][keep:]
        elif final == "m":
            self._style = _style(parameters, self._style)


def _style(parameters: str, before: str) -> str:
    style = before
    for code in (int(number or 0) for number in parameters.split(";")):
        if code == 0:
            style = ""
        elif code == 1:
            style += "font-weight:bold;"
        elif code == 2:
            style += "opacity:.7;"
        elif code % 10 in range(1, 7) and code // 10 in (3, 9):
            style += f"fill:{_COLOURS[30 + code % 10]};"
    return style


def render(groups: list[list[list[Cell]]]) -> str:
    """Draw groups of lines, a command and its output each, one group appearing after the other."""
    count = sum(len(lines) for lines in groups)
    width = round(COLUMNS * _CHARACTER_WIDTH + 2 * _MARGIN)
    height = _TOP + count * _LINE_HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img"'
        ' aria-label="A terminal session: fusepkg mounts a dataset, files are read, little is fetched">',
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#e6edf3;"
        "white-space:pre}@keyframes show{from{opacity:0}}@media(prefers-reduced-motion:no-preference)"
        "{g{animation:show .25s both}}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *(f'<circle cx="{20 + 18 * n}" cy="19" r="5.5" fill="{c}"/>' for n, c in enumerate(_BUTTONS)),
    ]
    row = 0
    for number, lines in enumerate(groups):
        parts.append(f'<g style="animation-delay:{number * _STEP_S:.1f}s">')
        for line in lines:
            parts += [_text(line, _TOP + row * _LINE_HEIGHT)] if line else []
            row += 1
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


_BUTTONS = ("#ff5f57", "#febc2e", "#28c840")


def _text(line: list[Cell], y: int) -> str:
    """One line; every run of one style is placed by itself, so that columns hold in any font."""
    spans = []
    start = 0
    for end in range(1, len(line) + 1):
        if end == len(line) or line[end].style != line[start].style:
            text = "".join(cell.character for cell in line[start:end])
            if text.strip():
                x, length = _MARGIN + start * _CHARACTER_WIDTH, len(text) * _CHARACTER_WIDTH
                style = f' style="{line[start].style}"' if line[start].style else ""
                spans.append(f'<tspan x="{x:.1f}" textLength="{length:.1f}"{style}>{escape(text)}</tspan>')
            start = end
    return f'<text y="{y + 14}" xml:space="preserve">{"".join(spans)}</text>'


def record(command: str, home: Path) -> list[list[Cell]]:
    """Run one command in a terminal, in ``home``; the lines of its prompt and its output."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
    }
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-c", command],
        cwd=home, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    said = b""
    while piece := _read(master):
        said += piece
    process.wait()
    os.close(master)
    screen = Screen()
    screen.show(f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m\n")
    screen.show(said.decode(errors="replace").replace(str(home), HOME).replace("bash: line 1: ", ""))
    while screen.lines and not screen.lines[-1]:
        screen.lines.pop()
    return screen.lines


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: every program has closed its side
        return b""


def publish(home: Path) -> None:
    """Publish the dataset that the session mounts."""
    folder = home / "folder"
    (folder / "images").mkdir(parents=True)
    for number in range(FILES):
        name = folder / "images" / f"{number:04}.jpg"
        name.write_bytes(number.to_bytes(4, "big") + os.urandom(64) + bytes(FILE_BYTES - 68))
    plants = ("moss", "fern", "oak", "ivy", "reed")
    rows = (f"{number:04},{plants[number % 5]}" for number in range(FILES))
    (folder / "labels.csv").write_text("\n".join(["image,plant", *rows, ""]))
    subprocess.run([sys.executable, "-m", "fusepkg", "push", folder, f"{BUCKET}/plants:v2"], check=True)
    (home / "plants").mkdir()


def main() -> None:
    """Record the session into docs/demo.svg."""
    sys.path.insert(0, str(ROOT))
    from tests.rgw import aws_environment, start_gateway

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = start_gateway(scratch / "s3", stack)
        gateway.s3.create_bucket(Bucket=BUCKET)
        home = scratch / "home"
        home.mkdir(mode=0o700)
        for name in [name for name in os.environ if name.startswith(("AWS_", "FUSEPKG_", "XDG_"))]:
            del os.environ[name]
        os.environ.update(
            aws_environment(gateway.endpoint, gateway.owner), FUSEPKG_CACHE_DIR=str(scratch / "publisher")
        )
        publish(home)
        os.environ["FUSEPKG_CACHE_DIR"] = str(home / "cache")
        stack.callback(subprocess.run, ["umount", "-lq", home / "plants"], check=False)
        OUTPUT.write_text(render([record(command, home) for command in SESSION]))


if __name__ == "__main__":
    main()
