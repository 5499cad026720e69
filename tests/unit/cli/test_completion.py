"""Shells complete commands and options: bash, zsh and fish."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Fusepkg


def test_commands_and_options_are_completed(fusepkg: Fusepkg) -> None:
    asked = {"_FUSEPKG_COMPLETE": "complete_bash", "COMP_WORDS": "fusepkg mou", "COMP_CWORD": "1"}
    assert fusepkg(env=asked).stdout.split() == ["mount", "mounts"]
    asked |= {"COMP_WORDS": "fusepkg umount --", "COMP_CWORD": "2"}
    assert {"--all", "--lazy"} <= set(fusepkg(env=asked).stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_the_shell_can_read(shell: str, fusepkg: Fusepkg, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(fusepkg("completion", shell).stdout)
    assert "_FUSEPKG_COMPLETE" in script.read_text()
    if shell == "bash" and (program := shutil.which(shell)):
        words = "COMP_WORDS=(fusepkg mou) COMP_CWORD=1"
        asked = f"source {script}; {words}; _fusepkg_completion fusepkg; echo ${{COMPREPLY[*]}}"
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(
            [program, "-c", asked],
            env={"PATH": path, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["mount", "mounts"]


def test_another_shell_is_refused(fusepkg: Fusepkg) -> None:
    done = fusepkg("completion", "tcsh", check=False)
    assert (done.returncode, "there is no completion for 'tcsh'" in done.stderr) == (2, True)
